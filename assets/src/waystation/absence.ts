// Measures the time without a link, and decides when the next try to open one starts.
//
// While the server keeps the session, the pauses between tries are short, because the network may come back just
// before the session expires. Afterwards the pauses grow.

import { Backoff } from "./backoff";
import type { Config } from "./config";

/** The time without a link, and the failed tries. */
export class Absence {
  /** The time without a link, in milliseconds. */
  awayMs = 0;
  /** The number of failed tries in a row. */
  failures = 0;
  /** The estimated time for which a session without a link can be resumed, in milliseconds. */
  #windowMs: number;
  readonly #backoff: Backoff;

  constructor({ backoffMinMs, backoffMaxMs, tries, random, linkTimeoutMs }: Config) {
    this.#backoff = new Backoff(backoffMinMs, backoffMaxMs, tries, random);
    // A page that kept only its token has no `timeoutMs` of a Welcome.
    this.#windowMs = linkTimeoutMs + WINDOW_SLACK_MS;
  }

  /** True while a session, if there is one, can still be resumed. */
  get isInWindow(): boolean {
    return this.awayMs < this.#windowMs;
  }

  /** Notes that the session has a link. Without a link the server keeps the session for `timeoutMs`. */
  welcomed(timeoutMs: number): void {
    this.#windowMs = timeoutMs > 0 ? timeoutMs + WINDOW_SLACK_MS : 0;
    this.forget();
  }

  /**
   * Notes that the link is lost. Returns the pause before the next try, in milliseconds. After a link that has
   * lasted the next try starts at once, because in a page with throttled timers the next event may come late.
   */
  lost(hasLasted: boolean): number {
    this.awayMs = 0;
    return hasLasted ? 0 : this.retryMs();
  }

  /** Notes a failed try. Returns the pause before the next try, or undefined if there is no further try. */
  failed(hasSession: boolean): number | undefined {
    this.failures += 1;
    if (hasSession && this.isInWindow) {
      return this.retryMs();
    }
    return this.#backoff.fail() ? undefined : this.#backoff.pause();
  }

  /** Returns the pause between two tries while the session can be resumed. */
  retryMs(): number {
    return this.#backoff.pauseInWindow(this.awayMs);
  }

  /** Resets the failed tries and the time without a link. */
  forget(): void {
    this.#backoff.reset();
    this.failures = 0;
    this.awayMs = 0;
  }
}

/**
 * How much later than the client the server may detect that a link is lost, in milliseconds: frames were in flight to
 * it, and its tick may be late.
 */
const WINDOW_SLACK_MS = 2_000;

// How long a session has had no link, and when the next try to get one starts.
//
// While the server keeps the session, tries follow each other closely: the network may be back in the
// last second of that time. Afterwards nothing is lost by patience, and the pauses grow.

import { Backoff } from "./backoff";
import type { Config } from "./config";

/** The time without a link, and the tries to end it. */
export class Absence {
  /** For how long there has been no link. */
  awayMs = 0;
  /** Tries in a row that failed. */
  failures = 0;
  /** For how long a session without a link can be resumed, as far as its client can tell. */
  #windowMs: number;
  readonly #backoff: Backoff;

  constructor({ backoffMinMs, backoffMaxMs, tries, random, linkTimeoutMs }: Config) {
    this.#backoff = new Backoff(backoffMinMs, backoffMaxMs, tries, random);
    // A page that kept only its token does not know for how long the server keeps the session.
    this.#windowMs = linkTimeoutMs + WINDOW_SLACK_MS;
  }

  /** Whether a session, if there is one, can still be resumed. */
  get isInWindow(): boolean {
    return this.awayMs < this.#windowMs;
  }

  /** The session has a link; without one the server keeps it for `timeoutMs`. */
  welcomed(timeoutMs: number): void {
    this.#windowMs = timeoutMs > 0 ? timeoutMs + WINDOW_SLACK_MS : 0;
    this.forget();
  }

  /**
   * The link is lost: the pause until the next try. A link that lasted is followed by a try at once,
   * for the event that told of the loss may be the last for a while in a page whose timers are throttled.
   */
  lost(hasLasted: boolean): number {
    this.awayMs = 0;
    return hasLasted ? 0 : this.retryMs();
  }

  /** A try failed: the pause until the next one; undefined if it was the last. */
  failed(hasSession: boolean): number | undefined {
    this.failures += 1;
    if (hasSession && this.isInWindow) {
      return this.retryMs();
    }
    return this.#backoff.fail() ? undefined : this.#backoff.pause();
  }

  /** The pause between two tries while the session can be resumed. */
  retryMs(): number {
    return this.#backoff.pauseInWindow(this.awayMs);
  }

  /** Tries that failed before are forgotten. */
  forget(): void {
    this.#backoff.reset();
    this.failures = 0;
    this.awayMs = 0;
  }
}

/**
 * How much later than its client the server may find that a link is lost: it has heard what was under
 * way for a round trip, and its last tick may have been late.
 */
const WINDOW_SLACK_MS = 2_000;

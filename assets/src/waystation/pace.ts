// How long openings may take: by what was measured, and by whether a session waits for a link.

import type { Absence } from "./absence";
import type { Config } from "./config";
import type { Pace } from "./race";
import type { TransportName } from "./transport";

/** What a pace needs to know of the session. */
export interface Haste {
  readonly absence: Absence;
  /** Whether there is a session that can still be resumed. */
  isInWindow(): boolean;
  /** The last round-trip time that was measured. */
  readonly roundTripMs: number | undefined;
}

/** The pace of all races of one client. */
export class ClientPace implements Pace {
  /** How long the next opening of a transport may take. */
  readonly #patience = new Map<TransportName, number>();

  constructor(
    private readonly config: Config,
    private readonly haste: Haste,
  ) {}

  staggerMs(): number {
    return this.config.staggerMs;
  }

  /**
   * WebTransport starts anew only after the time that an opening may take, even if it failed sooner:
   * Chromium delays the openings of a page whose openings have failed, by a second each.
   */
  retryMs(name: TransportName): number {
    const pauseMs = this.haste.absence.retryMs();
    return name === "webtransport" ? Math.max(pauseMs, this.#patienceOf(name)) : pauseMs;
  }

  /**
   * While the session can be resumed, WebSocket starts anew soon after its first opening: TCP repeats
   * what was lost in an outage only after seconds, when the session may be over.
   */
  patienceMs(name: TransportName, count: number): number {
    const patience = this.#patienceOf(name);
    const { roundTripMs } = this.haste;
    if (name !== "websocket" || count === 0 || roundTripMs === undefined || !this.haste.isInWindow()) {
      return patience;
    }
    return Math.min(Math.max(HASTY_MS, HASTY_ROUND_TRIPS * roundTripMs), this.config.dialTimeoutMaxMs);
  }

  /** The next opening of a transport may take half as much longer as one that took too long. */
  timedOut(name: TransportName, afterMs: number): void {
    this.#set(name, Math.max(this.#patience.get(name) ?? 0, afterMs * GROWTH));
  }

  /** An opening took this long. The next one may take twice as long. */
  opened(name: TransportName, tookMs: number): void {
    this.#set(name, tookMs * 2);
  }

  #patienceOf(name: TransportName): number {
    return this.#patience.get(name) ?? this.config.dialTimeoutMs;
  }

  #set(name: TransportName, ms: number): void {
    const { dialTimeoutMs, dialTimeoutMaxMs } = this.config;
    this.#patience.set(name, Math.min(Math.max(ms, dialTimeoutMs), dialTimeoutMaxMs));
  }
}

/** By how much the time of an opening grows when it was too short. */
const GROWTH = 1.5;
/** The shortest time that an opening gets. */
const HASTY_MS = 1_000;
/** TCP, TLS and HTTP take four round trips together; six leave room. */
const HASTY_ROUND_TRIPS = 6;

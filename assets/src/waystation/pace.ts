// Decides how long openings may take, from measured times and from whether a session waits for a link.

import type { Absence } from "./absence";
import type { Config } from "./config";
import type { Pace } from "./race";
import type { TransportName } from "./transport";

/** The state of the session that a pace depends on. */
export interface Haste {
  readonly absence: Absence;
  /** Returns true if there is a session that can still be resumed. */
  isInWindow(): boolean;
  /** The last round-trip time, in milliseconds. */
  readonly roundTripMs: number | undefined;
}

/** The pace of all races of one client. */
export class ClientPace implements Pace {
  /** How long the next opening of each transport may take, in milliseconds. */
  readonly #patience = new Map<TransportName, number>();

  constructor(
    private readonly config: Config,
    private readonly haste: Haste,
  ) {}

  staggerMs(): number {
    return this.config.staggerMs;
  }

  /**
   * Returns the shortest time between the starts of two openings. For WebTransport it is the time that an opening may
   * take, even if the first one fails sooner, because Chromium delays openings after failures by a second each.
   */
  retryMs(name: TransportName): number {
    const pauseMs = this.haste.absence.retryMs();
    return name === "webtransport" ? Math.max(pauseMs, this.#patienceOf(name)) : pauseMs;
  }

  /**
   * Returns how long an opening may take. While the session can be resumed, further openings of WebSocket get less
   * time than the first one: after an outage TCP waits for seconds before it sends again, and the session may expire.
   */
  patienceMs(name: TransportName, count: number): number {
    const patience = this.#patienceOf(name);
    const { roundTripMs } = this.haste;
    if (name !== "websocket" || count === 0 || roundTripMs === undefined || !this.haste.isInWindow()) {
      return patience;
    }
    return Math.min(Math.max(HASTY_MS, HASTY_ROUND_TRIPS * roundTripMs), this.config.dialTimeoutMaxMs);
  }

  /** Notes an opening that was abandoned after `afterMs`. The next one may take half as long again. */
  timedOut(name: TransportName, afterMs: number): void {
    this.#set(name, Math.max(this.#patience.get(name) ?? 0, afterMs * GROWTH));
  }

  /** Notes an opening that took `tookMs`. The next one may take twice as long. */
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

/** The factor by which the time for an opening grows after a timeout. */
const GROWTH = 1.5;
/** The shortest time for an opening, in milliseconds. */
const HASTY_MS = 1_000;
/** Round trips for an opening. TCP, TLS and HTTP take four together; six leave room for losses. */
const HASTY_ROUND_TRIPS = 6;

// Opens links over several transports, and uses the first one that is open.
//
// Openings are raced, and Hellos are not. The first transport starts at once, and each further one a little later. When
// a link is open, the other openings are closed; no frame was sent on them. A transport whose opening fails or takes
// too long starts again, independently of the others.

import { type Heard, Opening } from "./opening";
import type { Transport, TransportName } from "./transport";

/** The times of a race, in milliseconds. */
export interface Pace {
  /** Returns the time between the first openings of two transports. */
  staggerMs(): number;
  /** Returns the shortest time between the starts of two openings of a transport. */
  retryMs(name: TransportName): number;
  /** Returns how long an opening may take. `count` is the number of earlier openings of the transport in this race. */
  patienceMs(name: TransportName, count: number): number;
  /** Notes that an opening was abandoned after this time. */
  timedOut(name: TransportName, afterMs: number): void;
}

/** A transport in the race. */
interface Runner {
  transport: Transport;
  /** The present opening, and the time at which it is abandoned. */
  opening: Opening | undefined;
  untilMs: number;
  /** The time at which the next opening starts, if there is no present one. */
  startAtMs: number;
  /** The number of openings that were started. */
  count: number;
  /** Why the last opening failed. Undefined if no opening has failed since `takeFailure` returned a failure. */
  failure: string | undefined;
}

/** The openings of one search for a link. */
export class Race {
  readonly #runners: Runner[] = [];

  constructor(
    private readonly pace: Pace,
    private readonly now: () => number,
    private readonly heard: Heard,
  ) {}

  /**
   * Adds transports, best first. A transport that is in the race already is replaced for its next opening, because its
   * address or certificate may have changed.
   */
  enter(transports: readonly Transport[]): void {
    let startAtMs = this.now();
    for (const transport of transports) {
      const known = this.#runners.find((runner) => runner.transport.name === transport.name);
      if (known === undefined) {
        this.#runners.push({ transport, opening: undefined, untilMs: 0, startAtMs, count: 0, failure: undefined });
        startAtMs += this.pace.staggerMs();
      } else {
        known.transport = transport;
      }
    }
  }

  /** Starts openings that are due, and abandons those that take too long. Returns a link when it is open. */
  update(): Opening | undefined {
    for (const runner of this.#runners) {
      const { opening } = runner;
      if (opening?.isOpen) {
        runner.opening = undefined;
        this.close();
        return opening;
      }
      if (opening === undefined) {
        if (this.now() >= runner.startAtMs) {
          this.#start(runner);
        }
      } else if (opening.ended !== undefined) {
        this.#failed(runner, opening, opening.ended);
      } else if (this.now() >= runner.untilMs) {
        this.pace.timedOut(opening.name, runner.untilMs - opening.sinceMs);
        this.#failed(runner, opening, `${opening.name} has not opened in time`);
      }
    }
    return undefined;
  }

  /** Returns the reason of the last failure if all transports have failed since the last such call. */
  takeFailure(): string | undefined {
    const failures = this.#runners.map(({ failure }) => failure);
    if (failures.length === 0 || failures.includes(undefined)) {
      return undefined;
    }
    for (const runner of this.#runners) {
      runner.failure = undefined;
    }
    return failures.at(-1);
  }

  /** Starts all openings that wait at the next `update`. */
  hurry(): void {
    for (const runner of this.#runners) {
      runner.startAtMs = 0;
    }
  }

  /** Closes all openings. */
  close(): void {
    for (const runner of this.#runners) {
      runner.opening?.close();
      runner.opening = undefined;
    }
  }

  #start(runner: Runner): void {
    const now = this.now();
    const { transport, count } = runner;
    runner.count += 1;
    runner.startAtMs = now + this.pace.retryMs(transport.name);
    try {
      runner.opening = new Opening(transport, now, this.now, this.heard);
      runner.untilMs = now + this.pace.patienceMs(transport.name, count);
    } catch (error) {
      runner.failure = error instanceof Error ? error.message : String(error);
    }
  }

  #failed(runner: Runner, opening: Opening, detail: string): void {
    opening.close();
    runner.opening = undefined;
    runner.failure = detail;
  }
}

// Opens links over several transports, and takes the one that is open first.
//
// Openings are raced, never Hellos. The first transport starts at once, each further one a little later.
// As soon as one is open the others are closed, having sent nothing. A transport that fails or takes too
// long starts again, at a pace of its own: one that fails at once does not wait for one that fails by
// time.

import { type Heard, Opening } from "./opening";
import type { Transport, TransportName } from "./transport";

/** How fast a race is. */
export interface Pace {
  /** The time between the first openings of two transports. */
  staggerMs(): number;
  /** The time between the starts of two openings of that transport, at the least. */
  retryMs(name: TransportName): number;
  /** How long an opening may take. `count` is how many of this transport the race has started before. */
  patienceMs(name: TransportName, count: number): number;
  /** An opening was given up after this long. */
  timedOut(name: TransportName, afterMs: number): void;
}

/** One transport in the race. */
interface Runner {
  transport: Transport;
  /** The opening under way, and when it is given up. */
  opening: Opening | undefined;
  untilMs: number;
  /** When the next opening starts, if there is none. */
  startAtMs: number;
  /** How many openings were started. */
  count: number;
  /** Why an opening failed, since all were last known to have failed. */
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
   * Adds transports, best first. One that is in the race already is replaced from its next opening on:
   * its address or certificate may be another.
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

  /** Starts what is due and gives up what takes too long. Returns the link that is open; it is the only one left. */
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
        this.#failed(runner, opening, `${opening.name} did not open in time`);
      }
    }
    return undefined;
  }

  /** Why the last opening failed, once for each time that all transports have failed. */
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

  /** Starts at once what waits for its turn or for its next opening. */
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

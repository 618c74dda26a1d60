// Tracks which frames that were sent on one link are known to have arrived.

/** A frame that is not known to have arrived: its number, which grows, and the time since it was sent. */
interface Mark {
  number: bigint;
  ageMs: number;
}

/** The frames that were sent on a link, and which of them are known to have arrived. */
export class Heard {
  /** The time since the newest frame was sent that is known to have arrived. At first this is the Hello. */
  #unheardMs = 0;
  /** Pings, by the id of their Beacon. */
  readonly #echoes: Mark[] = [];
  /** Some of the counted frames, by their number. */
  readonly #counted: Mark[] = [];
  /** The number of the last one of these. */
  #marked = 0n;

  advance(dtMs: number): void {
    this.#unheardMs += dtMs;
    for (const mark of [...this.#echoes, ...this.#counted]) {
      mark.ageMs += dtMs;
    }
  }

  /** Notes that the Ping of a Beacon was sent. */
  sentEcho(id: bigint): void {
    push(this.#echoes, id);
  }

  /** Notes that `count` counted frames were sent, over all links of the session. */
  sent(count: bigint): void {
    const last = this.#counted.at(-1);
    if (count > this.#marked && (last === undefined || last.ageMs >= MARK_EVERY_MS)) {
      this.#marked = count;
      push(this.#counted, count);
    }
  }

  /** Notes that the Ping of this Beacon has arrived, by the field `echoed` of a later Beacon. */
  echoed(id: bigint): void {
    this.#unheardMs = Math.min(this.#unheardMs, take(this.#echoes, id));
  }

  /** Notes that the server has acknowledged `count` frames. */
  acknowledged(count: bigint): void {
    this.#unheardMs = Math.min(this.#unheardMs, take(this.#counted, count));
  }

  /** The time for which the server is not known to have received anything, in milliseconds. */
  get silenceMs(): number {
    return this.#unheardMs - TOLD_WITHIN_MS;
  }
}

function push(marks: Mark[], number: bigint): void {
  marks.push({ number, ageMs: 0 });
  marks.splice(0, marks.length - MARKS_MAX);
}

/** Removes all marks up to this number. Returns the time since the newest of them was sent. */
function take(marks: Mark[], number: bigint): number {
  const count = marks.filter((mark) => mark.number <= number).length;
  return marks.splice(0, count).at(-1)?.ageMs ?? Number.POSITIVE_INFINITY;
}

/**
 * The time between two Beacons, in milliseconds. Pings are sent at the same rate, so a link whose round trip is shorter
 * than 4 s is not lost for it.
 */
const TOLD_WITHIN_MS = 1_000;
/** The shortest time between two counted frames that are marked, in milliseconds. */
const MARK_EVERY_MS = 500;
/** The most marks of a kind: twice those of the longest round trip of a link. The oldest is dropped first. */
const MARKS_MAX = 16;

// What is known of how much of this client the server hears on one link.

/** A frame of which nothing is known yet: a number that grows, and how long ago it was sent. */
interface Mark {
  number: bigint;
  ageMs: number;
}

/** What was sent on a link, and what the server has told that it has of it. */
export class Heard {
  /** Since the newest frame was sent that is known to have arrived: at first, the Hello. */
  #unheardMs = 0;
  /** Echoes, by Beacon. */
  readonly #echoes: Mark[] = [];
  /** Counted frames, by count: some of them. */
  readonly #counted: Mark[] = [];
  /** The count of the last one of these. */
  #marked = 0n;

  advance(dtMs: number): void {
    this.#unheardMs += dtMs;
    for (const mark of [...this.#echoes, ...this.#counted]) {
      mark.ageMs += dtMs;
    }
  }

  /** The echo of a Beacon was sent. */
  sentEcho(id: bigint): void {
    push(this.#echoes, id);
  }

  /** `count` counted frames were sent, over all links of the session. */
  sent(count: bigint): void {
    const last = this.#counted.at(-1);
    if (count > this.#marked && (last === undefined || last.ageMs >= MARK_EVERY_MS)) {
      this.#marked = count;
      push(this.#counted, count);
    }
  }

  /** A Beacon says that the server has the echo of this one. */
  echoed(id: bigint): void {
    this.#unheardMs = Math.min(this.#unheardMs, take(this.#echoes, id));
  }

  /** The server has counted `count` frames. */
  acknowledged(count: bigint): void {
    this.#unheardMs = Math.min(this.#unheardMs, take(this.#counted, count));
  }

  /** How long the server has heard nothing, as far as is known. */
  get silenceMs(): number {
    return this.#unheardMs - TOLD_WITHIN_MS;
  }
}

function push(marks: Mark[], number: bigint): void {
  marks.push({ number, ageMs: 0 });
  marks.splice(0, marks.length - MARKS_MAX);
}

/** Takes out all up to this number. Returns how long ago the newest of them was sent. */
function take(marks: Mark[], number: bigint): number {
  const count = marks.filter((mark) => mark.number <= number).length;
  return marks.splice(0, count).at(-1)?.ageMs ?? Number.POSITIVE_INFINITY;
}

/**
 * The server tells what it has heard once a second. An echo leaves once a second as well, so a link whose round
 * trip is shorter than 4 s is never given up.
 */
const TOLD_WITHIN_MS = 1_000;
/** How much later than the one before it a counted frame is marked. */
const MARK_EVERY_MS = 500;
/** Marks of a kind, oldest dropped first: those of the longest round trip that a link survives, twice. */
const MARKS_MAX = 16;

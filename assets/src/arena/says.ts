// Checks by numbered calls and their echoes that no reliable message is lost or duplicated.

/** Counts the calls that were sent, answered, lost and duplicated. */
export class Says {
  #sent = 0n;
  /** The number of the last answered call. Undefined after a resync. */
  #answered: bigint | undefined = 0n;
  /** The difference between the server's count of calls and the number of a call. Undefined after a resync. */
  #ahead: bigint | undefined = 0n;

  answeredCount = 0;
  lost = 0;
  doubled = 0;

  /** Begins a new session: both sides count from 0. */
  reset(): void {
    this.#sent = 0n;
    this.#answered = 0n;
    this.#ahead = 0n;
    this.answeredCount = 0;
    this.lost = 0;
    this.doubled = 0;
  }

  /** Notes that answers in flight are void, or that the page was reloaded. */
  resync(): void {
    this.#answered = undefined;
    this.#ahead = undefined;
  }

  /** The number of the next call. */
  get next(): bigint {
    return this.#sent + 1n;
  }

  /** Notes that a call was sent. */
  said(): void {
    this.#sent += 1n;
  }

  /** Handles the answer to call `number`. `taken` is the number of calls that the server has received. */
  echoed(number: bigint, taken: bigint): void {
    const expected = this.#answered === undefined ? number : this.#answered + 1n;
    if (number < expected) {
      this.doubled += 1;
      return;
    }
    this.lost += Number(number - expected);
    this.#answered = number;
    this.answeredCount += 1;
    const ahead = taken - number;
    if (this.#ahead !== undefined && ahead !== this.#ahead) {
      // The server has handled a call twice, or not at all.
      if (ahead > this.#ahead) {
        this.doubled += Number(ahead - this.#ahead);
      } else {
        this.lost += Number(this.#ahead - ahead);
      }
    }
    this.#ahead = ahead;
  }

  /** Returns true if all calls up to this number are answered. */
  isAnswered(number: bigint): boolean {
    return this.#answered !== undefined && this.#answered >= number;
  }

  get sent(): bigint {
    return this.#sent;
  }
}

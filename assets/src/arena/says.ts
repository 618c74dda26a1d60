// Numbered calls and their echoes: the page's own proof that nothing is lost or doubled, whatever
// happens to its links.

/** Counts calls that were sent and answered. */
export class Says {
  #sent = 0n;
  /** The last number that was answered; unknown where the thread was lost. */
  #answered: bigint | undefined = 0n;
  /** What the server's count is ahead of ours. */
  #ahead: bigint | undefined = 0n;

  answeredCount = 0;
  lost = 0;
  doubled = 0;

  /** A new session: both sides count from 0. */
  reset(): void {
    this.#sent = 0n;
    this.#answered = 0n;
    this.#ahead = 0n;
    this.answeredCount = 0;
    this.lost = 0;
    this.doubled = 0;
  }

  /** Answers that were under way are void, or the page was loaded anew. */
  resync(): void {
    this.#answered = undefined;
    this.#ahead = undefined;
  }

  /** The number of the next call. */
  get next(): bigint {
    return this.#sent + 1n;
  }

  /** The call was taken by the client. */
  said(): void {
    this.#sent += 1n;
  }

  /** The server answered call `number`, after `taken` calls in all. */
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
      // The server ran one more than there was, or one less.
      if (ahead > this.#ahead) {
        this.doubled += Number(ahead - this.#ahead);
      } else {
        this.lost += Number(this.#ahead - ahead);
      }
    }
    this.#ahead = ahead;
  }

  /** Whether all calls up to that number are answered. */
  isAnswered(number: bigint): boolean {
    return this.#answered !== undefined && this.#answered >= number;
  }

  get sent(): bigint {
    return this.#sent;
  }
}

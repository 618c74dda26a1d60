// Computes the pauses between tries: they grow exponentially and have jitter.

/** The pauses between tries, and the number of failed tries in a row. */
export class Backoff {
  #pauses = 0;
  #failures = 0;

  constructor(
    private readonly minMs: number,
    private readonly maxMs: number,
    private readonly tries: number,
    private readonly random: () => number,
  ) {}

  /** Counts a failed try. Returns true if it was the last one. */
  fail(): boolean {
    this.#failures += 1;
    return this.#failures >= this.tries;
  }

  /**
   * Returns the next pause in milliseconds. The n-th pause, from 1, is between half and all of `minMs`·2ⁿ, and within
   * `minMs` and `maxMs`. The random part spreads the tries of pages that have lost their links at the same time.
   */
  pause(): number {
    this.#pauses += 1;
    const longest = Math.min(this.minMs * 2 ** this.#pauses, this.maxMs);
    const shortest = Math.max(longest / 2, Math.min(this.minMs, longest));
    return shortest + (longest - shortest) * this.random();
  }

  /**
   * Returns the pause before another try while the session can be resumed, `awayMs` after its link was lost. It is
   * short, so that a try is made even if the network comes back just before the session expires. Pauses of `pause` do
   * not grow by it.
   */
  pauseInWindow(awayMs: number): number {
    const wanted = Math.max(WINDOW_PAUSE_MAX_MS, awayMs / WINDOW_PAUSE_SHARE);
    const longest = Math.max(Math.min(this.maxMs, wanted), this.minMs);
    const shortest = Math.max(longest / 2, this.minMs);
    return shortest + (longest - shortest) * this.random();
  }

  /** Resets the pauses and failures after a try that has succeeded. */
  reset(): void {
    this.#pauses = 0;
    this.#failures = 0;
  }
}

/** The longest pause in the first seconds without a link: a small part of the default window of 5 s. */
const WINDOW_PAUSE_MAX_MS = 300;
/** After a longer time without a link, the longest pause is this fraction of that time: 1/32. */
const WINDOW_PAUSE_SHARE = 32;

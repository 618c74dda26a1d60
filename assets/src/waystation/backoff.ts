// How long to wait before another try: exponentially longer, with jitter.

/** The pauses between tries, and how many tries in a row have failed. */
export class Backoff {
  #pauses = 0;
  #failures = 0;

  constructor(
    private readonly minMs: number,
    private readonly maxMs: number,
    private readonly tries: number,
    private readonly random: () => number,
  ) {}

  /** Counts a failed try; true if there is none left. */
  fail(): boolean {
    this.#failures += 1;
    return this.#failures >= this.tries;
  }

  /**
   * The next pause in milliseconds: between half and whole of `minMs`·2ⁿ⁺¹, within `minMs` and
   * `maxMs`. Half of it is chance, so that pages which lost a server together do not come back
   * together.
   */
  pause(): number {
    this.#pauses += 1;
    const longest = Math.min(this.minMs * 2 ** this.#pauses, this.maxMs);
    const shortest = Math.max(longest / 2, Math.min(this.minMs, longest));
    return shortest + (longest - shortest) * this.random();
  }

  /** A try succeeded. */
  reset(): void {
    this.#pauses = 0;
    this.#failures = 0;
  }
}

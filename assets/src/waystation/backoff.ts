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

  /**
   * The pause before another try while the session can still be resumed, `awayMs` after its link was
   * lost. It does not count as a pause between failures, and it stays short, so that a try is under way
   * when the network comes back just before the session expires.
   */
  pauseInWindow(awayMs: number): number {
    const wanted = Math.max(WINDOW_PAUSE_MAX_MS, awayMs / WINDOW_PAUSE_SHARE);
    const longest = Math.max(Math.min(this.maxMs, wanted), this.minMs);
    const shortest = Math.max(longest / 2, this.minMs);
    return shortest + (longest - shortest) * this.random();
  }

  /** A try succeeded. */
  reset(): void {
    this.#pauses = 0;
    this.#failures = 0;
  }
}

/** The longest pause in the first seconds of an absence: of the default window of 5 s, 300 ms are little. */
const WINDOW_PAUSE_MAX_MS = 300;
/** In a long absence the pause may grow to this share of it: a session may be kept for an hour. */
const WINDOW_PAUSE_SHARE = 32;

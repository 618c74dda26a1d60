// Time for a client, also in a page that nobody looks at.
//
// Browsers let the timers of a hidden page fire once a second, and later once a minute. The timers of a
// dedicated worker are not throttled so, and neither are messages. While the page is hidden, a worker
// therefore sends a message for each tick. Where a page may not have a worker made from a blob (its
// policy needs `worker-src blob:`), it goes by its own timers, however late.

/** Calls `tick` again and again until `stop`, and `wake` when the page has reason to look at once. */
export class Ticker {
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #ended = new AbortController();
  #worker: Worker | undefined;

  constructor(
    private readonly tick: () => void,
    wake: () => void,
  ) {
    this.#timer = setInterval(tick, TICK_MS);
    if (typeof document === "undefined") {
      return;
    }
    const { signal } = this.#ended;
    const shown = () => {
      this.#setWorker();
      if (document.visibilityState === "visible") {
        wake();
      }
    };
    document.addEventListener("visibilitychange", shown, { signal });
    // The page was frozen, or comes from the cache of the Back button, or the network is back.
    document.addEventListener("resume", wake, { signal });
    addEventListener("pageshow", wake, { signal });
    addEventListener("online", wake, { signal });
    this.#setWorker();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#ended.abort();
    this.#worker?.terminate();
    this.#worker = undefined;
  }

  /** The worker runs while the page is hidden. */
  #setWorker(): void {
    const isHidden = document.visibilityState === "hidden";
    if (isHidden && this.#worker === undefined) {
      this.#worker = makeWorker();
      this.#worker?.addEventListener("message", () => this.tick());
    } else if (!isHidden) {
      this.#worker?.terminate();
      this.#worker = undefined;
    }
  }
}

function makeWorker(): Worker | undefined {
  try {
    codeUrl ??= URL.createObjectURL(new Blob([CODE], { type: "text/javascript" }));
    return new Worker(codeUrl);
  } catch {
    return undefined;
  }
}

/** Acks and pauses are due within a second or so; twenty looks a second are plenty. */
const TICK_MS = 50;
/** A hidden page needs time only for acks, tries and silence. */
const HIDDEN_TICK_MS = 200;
/** What the worker runs. */
const CODE = `setInterval(() => postMessage(0), ${HIDDEN_TICK_MS})`;
/** Where the worker finds it; made once a page. */
let codeUrl: string | undefined;

// Calls a client regularly, also in a hidden page.
//
// In a hidden page browsers fire timers once a second, and later once a minute. They do not throttle the timers of a
// dedicated worker, or messages. So while the page is hidden, a worker sends a message for each tick. The worker is made
// from a blob, which a Content-Security-Policy must allow by `worker-src blob:`. Without a worker, the page's own timers
// are used.

/** Calls `tick` regularly until `stop`. Calls `wake` when the page is shown or the network is back. */
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
    // The page was frozen, comes from the back/forward cache, or has its network back.
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

  /** Starts the worker if the page is hidden, and stops it otherwise. */
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

/** The time between two ticks, in milliseconds. */
const TICK_MS = 50;
/** The time between two ticks of a hidden page, in milliseconds. It has only Acks, tries and timeouts to handle. */
const HIDDEN_TICK_MS = 200;
/** The code of the worker. */
const CODE = `setInterval(() => postMessage(0), ${HIDDEN_TICK_MS})`;
/** The URL of the code, made once for each page. */
let codeUrl: string | undefined;

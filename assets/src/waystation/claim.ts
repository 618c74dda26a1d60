// Decides whether a page may use what its tab has kept.
//
// A browser that duplicates a tab copies the session storage of the tab. Without a claim, both pages
// would resume one session, and each would throw the other out. Each tab therefore keeps a random name
// beside its token, and a page claims the name of its tab for as long as the page lives. A page whose
// claim is refused is a duplicate.
//
// Where the browser has Web Locks, a claim is a lock: the browser releases it when the page ends, also
// when it crashes or is discarded. Web Locks exist in secure contexts only. Elsewhere pages ask each
// other over a BroadcastChannel, and a page that gets no answer has the claim. With neither, every
// claim is granted.

/** What claims need of a browser; each part may be missing. */
export interface ClaimSupport {
  locks: Pick<LockManager, "request"> | undefined;
  openChannel: ((name: string) => BroadcastChannel) | undefined;
  random: () => number;
}

/** Claims a name for this page; resolves to false if another page has it. */
export async function claim(name: string): Promise<boolean> {
  let own = claims.get(name);
  if (own === undefined) {
    own = new Claim(name, supported());
    claims.set(name, own);
    renewWhenShownAgain(name);
  }
  const isOurs = await own.isGranted;
  if (!isOurs && claims.get(name) === own) {
    claims.delete(name);
  }
  return isOurs;
}

/** The claim of one page to one name, from the request to `release`. */
export class Claim {
  /** Resolves once it is known whether this page has the name. */
  readonly isGranted: Promise<boolean>;
  readonly #number: number;
  readonly #channel: BroadcastChannel | undefined;
  readonly #waiting = new AbortController();
  #state: "asking" | "held" | "over" = "asking";
  #answer: (isOurs: boolean) => void = () => {};
  #releaseLock = () => {};

  constructor(
    private readonly name: string,
    private readonly support: ClaimSupport,
  ) {
    this.#number = support.random();
    this.isGranted = new Promise((resolve) => (this.#answer = resolve));
    this.#channel = this.#listen();
    const { locks } = support;
    const waitMs = locks !== undefined ? LOCK_WAIT_MS : this.#channel !== undefined ? ANSWER_WAIT_MS : 0;
    // A lock that is not released in time belongs to a page that is frozen; silence without locks means
    // that no other page has the name.
    const timer = setTimeout(() => this.#decide(locks === undefined), waitMs);
    void this.isGranted.then(() => clearTimeout(timer));
    this.#post({ asks: this.#number });
    if (locks !== undefined) {
      this.#requestLock(locks);
    }
  }

  /** Gives the name back. */
  release(): void {
    this.#decide(false);
    this.#state = "over";
    this.#channel?.close();
    this.#releaseLock();
  }

  #requestLock(locks: NonNullable<ClaimSupport["locks"]>): void {
    const hold = () => {
      this.#decide(true);
      return this.#state === "held" ? new Promise<void>((release) => (this.#releaseLock = release)) : undefined;
    };
    locks.request(this.name, { signal: this.#waiting.signal }, hold).catch(() => {
      // A page that may not use locks cannot be refused.
      this.#decide(!this.#waiting.signal.aborted);
    });
  }

  #listen(): BroadcastChannel | undefined {
    try {
      const channel = this.support.openChannel?.(this.name);
      channel?.addEventListener("message", ({ data }: MessageEvent<unknown>) => this.#take(data));
      return channel;
    } catch {
      // A page may be forbidden to open one.
      return undefined;
    }
  }

  #take(message: unknown): void {
    if (typeof message !== "object" || message === null) {
      return;
    }
    if ("refuses" in message && message.refuses === this.#number) {
      this.#decide(false);
    } else if ("asks" in message && typeof message.asks === "number") {
      this.#asked(message.asks);
    }
  }

  /** Without locks, of two pages that ask at the same time the one with the higher number gets the name. */
  #asked(number: number): void {
    if (this.#state === "held" || (this.support.locks === undefined && this.#number > number)) {
      this.#post({ refuses: number });
    } else if (this.support.locks === undefined) {
      this.#decide(false);
    }
  }

  #post(message: { asks: number } | { refuses: number }): void {
    if (this.#state !== "over") {
      this.#channel?.postMessage(message);
    }
  }

  #decide(isOurs: boolean): void {
    if (this.#state !== "asking") {
      return;
    }
    this.#state = isOurs ? "held" : "over";
    this.#answer(isOurs);
    if (!isOurs) {
      this.#channel?.close();
      this.#waiting.abort();
    }
  }
}

/** A page in the cache of the Back button has ended for other pages, and claims again when it is shown. */
function renewWhenShownAgain(name: string): void {
  if (typeof addEventListener !== "function") {
    return;
  }
  addEventListener(
    "pagehide",
    () => {
      claims.get(name)?.release();
      claims.delete(name);
      addEventListener("pageshow", () => void claim(name), { once: true });
    },
    { once: true },
  );
}

function supported(): ClaimSupport {
  return {
    locks: typeof navigator === "undefined" ? undefined : navigator.locks,
    openChannel: typeof BroadcastChannel === "undefined" ? undefined : (name) => new BroadcastChannel(name),
    random: Math.random,
  };
}

/** The claims of this page. Several clients of one page share one. */
const claims = new Map<string, Claim>();
/** How long a claim waits for the lock: the page before a reload releases it when it ends. */
export const LOCK_WAIT_MS = 2_000;
/** How long a claim without locks waits for the answer of another page. */
export const ANSWER_WAIT_MS = 300;

// Decides which page may use the token that a tab has stored.
//
// A browser that duplicates a tab copies its session storage. Then both pages would resume one session, and each would
// take it over from the other. So each tab stores a random name beside its token, and a page claims this name for as
// long as the page exists. A page whose claim is refused is a duplicate.
//
// If the browser has Web Locks, a claim is a lock. The browser releases it when the page ends, also when the page
// crashes or is discarded. Web Locks exist in secure contexts only. Otherwise pages ask each other over a
// BroadcastChannel, and a page that gets no answer has the claim. Without both, every claim is granted.

/** The features of the browser that claims use. Each one may be missing. */
export interface ClaimSupport {
  locks: Pick<LockManager, "request"> | undefined;
  openChannel: ((name: string) => BroadcastChannel) | undefined;
  random: () => number;
}

/** Claims a name for this page. Resolves to false if another page has it. */
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

/** The claim of a page to a name, until `release`. */
export class Claim {
  /** Resolves to true if this page has the name, and to false if another page has it. */
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
    // With locks, a timeout means that a page that is frozen holds the lock. Without locks, it means that no other page
    // has the name.
    const timer = setTimeout(() => this.#decide(locks === undefined), waitMs);
    void this.isGranted.then(() => clearTimeout(timer));
    this.#post({ asks: this.#number });
    if (locks !== undefined) {
      this.#requestLock(locks);
    }
  }

  /** Releases the name. */
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
      // The browser does not allow locks: the claim is granted.
      this.#decide(!this.#waiting.signal.aborted);
    });
  }

  #listen(): BroadcastChannel | undefined {
    try {
      const channel = this.support.openChannel?.(this.name);
      channel?.addEventListener("message", ({ data }: MessageEvent<unknown>) => this.#take(data));
      return channel;
    } catch {
      // The browser does not allow channels.
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

  /** Answers a page that asks. Without locks, of two pages that ask at once, the higher number gets the name. */
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

/** Releases the claim when the page enters the back/forward cache, and claims again when the page is shown. */
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

/** The claims of this page, by name. Clients of one page share a claim. */
const claims = new Map<string, Claim>();
/** How long a claim waits for the lock, in milliseconds. After a reload, the page before releases it when it ends. */
export const LOCK_WAIT_MS = 2_000;
/** How long a claim without locks waits for the answer of another page, in milliseconds. */
export const ANSWER_WAIT_MS = 300;

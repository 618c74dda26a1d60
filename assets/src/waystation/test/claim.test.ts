// Tests claims: a duplicated page may not use the token that its tab has copied.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ANSWER_WAIT_MS, Claim, type ClaimSupport, LOCK_WAIT_MS } from "../claim";

type Listener = (event: { data: unknown }) => void;

/** The pages of one browser, with fakes of its channels and locks. */
class Pages {
  readonly #channels = new Map<object, Listener>();
  readonly #holders: (() => void)[] = [];
  /** The requests for the lock that wait, in order. */
  readonly #queue: (() => void)[] = [];
  #isLocked = false;

  constructor(private readonly t: TestContext) {
    t.mock.timers.enable({ apis: ["setTimeout"] });
  }

  /** Opens a page with this number. While `isDeaf` returns true, the page receives no messages. */
  page(number: number, { hasLocks = true, hasChannel = true, isDeaf = (): boolean => false } = {}): Claim {
    const support: ClaimSupport = {
      locks: hasLocks ? { request: this.#request } : undefined,
      openChannel: hasChannel ? () => this.#open(isDeaf) : undefined,
      random: () => number,
    };
    return new Claim("tab", support);
  }

  #open(isDeaf: () => boolean): BroadcastChannel {
    const channel = {
      addEventListener: (_: string, listener: Listener) => this.#channels.set(channel, (event) => isDeaf() || listener(event)),
      postMessage: (data: unknown) => {
        for (const [other, listener] of this.#channels) {
          if (other !== channel) {
            queueMicrotask(() => this.#channels.has(other) && listener({ data }));
          }
        }
      },
      close: () => this.#channels.delete(channel),
    };
    return channel as unknown as BroadcastChannel;
  }

  readonly #request = ((_name: string, { signal }: LockOptions, hold: () => Promise<void> | undefined) =>
    new Promise<void>((resolve, reject) => {
      const enter = () => {
        this.#isLocked = true;
        this.#holders.push(() => this.#unlock());
        void Promise.resolve(hold()).then(() => {
          this.#unlock();
          resolve();
        });
      };
      signal?.addEventListener("abort", () => {
        this.#queue.splice(this.#queue.indexOf(enter), 1);
        reject(new DOMException("aborted", "AbortError"));
      });
      this.#isLocked ? this.#queue.push(enter) : enter();
    })) as LockManager["request"];

  #unlock(): void {
    this.#isLocked = false;
    this.#queue.shift()?.();
  }

  /** Crashes the page that holds the lock: it sends nothing, and the browser releases the lock. */
  crash(): void {
    this.#channels.clear();
    this.#holders.pop()?.();
  }

  async pass(ms: number): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.t.mock.timers.tick(ms);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

for (const hasLocks of [true, false]) {
  const how = hasLocks ? "by locks" : "by asking";

  test(`of a page and its duplicate the first has the claim, ${how}`, async (t) => {
    const pages = new Pages(t);
    const first = pages.page(0.1, { hasLocks });
    await pages.pass(ANSWER_WAIT_MS);
    assert.equal(await first.isGranted, true);

    const duplicates = [pages.page(0.9, { hasLocks }), pages.page(0.01, { hasLocks })];

    // The answer arrives before any timeout.
    await pages.pass(0);
    assert.deepEqual(await Promise.all(duplicates.map(({ isGranted }) => isGranted)), [false, false]);
  });

  test(`a reloaded page gets the claim of the page before it, ${how}`, async (t) => {
    const pages = new Pages(t);
    const before = pages.page(0.9, { hasLocks });
    await pages.pass(ANSWER_WAIT_MS);
    assert.equal(await before.isGranted, true);

    before.release();
    const after = pages.page(0.1, { hasLocks });

    await pages.pass(ANSWER_WAIT_MS);
    assert.equal(await after.isGranted, true);
  });
}

test("a page gets the claim of a page that has crashed", async (t) => {
  const pages = new Pages(t);
  const before = pages.page(0.9);
  assert.equal(await before.isGranted, true);

  pages.crash();
  const after = pages.page(0.1);

  assert.equal(await after.isGranted, true);
});

test("a frozen page keeps its lock, and the claim of its duplicate times out", async (t) => {
  const pages = new Pages(t);
  let isFrozen = false;
  const frozen = pages.page(0.9, { isDeaf: () => isFrozen });
  assert.equal(await frozen.isGranted, true);
  isFrozen = true;

  const duplicate = pages.page(0.1);
  let answer: boolean | undefined;
  void duplicate.isGranted.then((isOurs) => (answer = isOurs));
  await pages.pass(LOCK_WAIT_MS - 1);
  assert.equal(answer, undefined);
  await pages.pass(1);

  assert.equal(answer, false);
});

test("of two pages that ask at the same time one gets the claim", async (t) => {
  for (const [left, right] of [[0.1, 0.9], [0.9, 0.1]] as const) {
    for (const isFirstHeard of [true, false]) {
      await t.test(`${left} and ${right}, the first question ${isFirstHeard ? "arrives" : "is lost"}`, async (t) => {
        const pages = new Pages(t);
        let isDeaf = !isFirstHeard;
        const first = pages.page(left, { hasLocks: false });
        const second = pages.page(right, { hasLocks: false, isDeaf: () => isDeaf });
        // The second page misses the first one's question, and receives its answer.
        await Promise.resolve();
        isDeaf = false;
        await pages.pass(ANSWER_WAIT_MS);

        const granted = [await first.isGranted, await second.isGranted];
        assert.deepEqual(granted, [left > right, right > left]);
      });
    }
  }
});

test("without locks and channels every claim is granted", async (t) => {
  const pages = new Pages(t);
  const lonely = [pages.page(0.1, { hasLocks: false, hasChannel: false }), pages.page(0.2, { hasLocks: false, hasChannel: false })];

  await pages.pass(0);

  assert.deepEqual(await Promise.all(lonely.map(({ isGranted }) => isGranted)), [true, true]);
});

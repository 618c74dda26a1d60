// Tests the page while its server cannot be reached.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Game } from "../game";
import type { Journal } from "../journal";

/** Fakes of the browser's clock, timers, fetch and sockets. */
class Browser {
  nowMs = 0;
  isServerThere = false;
  readonly sockets: string[] = [];

  constructor(private readonly t: TestContext) {
    const { sockets } = this;
    class FakeSocket {
      constructor(url: string) {
        sockets.push(url);
      }
      close() {}
    }
    t.mock.timers.enable({ apis: ["setInterval"] });
    t.mock.method(performance, "now", () => this.nowMs);
    t.mock.method(Math, "random", () => 0.5);
    t.mock.method(globalThis, "fetch", () => this.#answer());
    const before = Object.getOwnPropertyDescriptor(globalThis, "WebSocket");
    Object.defineProperty(globalThis, "WebSocket", { configurable: true, writable: true, value: FakeSocket });
    t.after(() => Object.defineProperty(globalThis, "WebSocket", before ?? { configurable: true, value: undefined }));
  }

  #answer(): Promise<Response> {
    const offers = [{ transport: "websocket", url: "ws://127.0.0.1:1/ws" }];
    const offer = { protocol: 1, name: "arena", offers };
    return this.isServerThere ? Promise.resolve(Response.json(offer)) : Promise.reject(new Error("refused"));
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 50) {
      this.nowMs += 50;
      this.t.mock.timers.tick(50);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

test("a page whose server cannot be reached shows it, tries again, and dials within 5 s after the server is back", async (t) => {
  const browser = new Browser(t);
  const texts: string[] = [];
  const journal = { texts, write: (_mood: string, text: string) => texts.push(text) } as unknown as Journal;
  const game = new Game(journal, "websocket", "ada");

  await browser.pass(120_000);

  assert.equal(game.ended, undefined);
  assert.equal(game.client.state, "connecting");
  assert.equal(game.isServerAway, true);
  assert.equal(texts.filter((text) => text.startsWith("the server cannot be reached")).length, 1);
  assert.equal(browser.sockets.length, 0);

  browser.isServerThere = true;
  await browser.pass(5_100);

  assert.deepEqual(browser.sockets.slice(0, 1), ["ws://127.0.0.1:1/ws"]);
});

// Tests networks that fail, pages that sleep, and pages with throttled timers.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { NAMES, answered, open, until } from "./stage.mjs";
import { startTcpRelay, startUdpRelay } from "./relay.mjs";
import { startServer } from "./server.mjs";

/** Waits until the page plays on in the same session over another link, and checks that nothing was lost or duplicated. */
async function playsOn(player, before) {
  const resumed = await until(player, ({ state, resumeCount }) => state === "connected" && resumeCount > before.resumeCount);
  assert.equal(resumed.session, before.session, resumed.journal.join("\n"));
  await answered(player);
  return resumed;
}

/** Returns the last entry of the journal that contains this text. */
const told = ({ journal }, text) => journal.findLast((entry) => entry.includes(text));

describe("a network without UDP", () => {
  let udp;
  let server;

  before(async () => {
    udp = await startUdpRelay();
    server = await startServer(["--public-quic", `127.0.0.1:${udp.port}`]);
    udp.target = server.ports.quic;
  });

  after(async () => {
    await server?.stop();
    udp?.stop();
  });

  test("when UDP is blocked, a page plays on over WebSocket in the same session", async (t) => {
    const ada = await open("ada", "auto", { server });
    const before = await answered(ada);
    assert.equal(before.transport, NAMES.wt);

    udp.isBlocked = true;
    const blockedMs = performance.now();
    const resumed = await playsOn(ada, before);

    t.diagnostic(`played again ${Math.round(performance.now() - blockedMs)} ms after the block; ${told(resumed, "resumed")}`);
    assert.equal(resumed.transport, NAMES.ws);
    assert.ok(udp.vanished > 0);

    // The transport that has worked starts first after the next loss.
    await ada.page.click("#cut");
    const again = await playsOn(ada, resumed);
    assert.equal(again.transport, NAMES.ws);
    t.diagnostic(told(again, "resumed"));
    udp.isBlocked = false;
    await ada.close();
  });

  test("a page that is opened while UDP is blocked plays over WebSocket", async (t) => {
    udp.isBlocked = true;

    const begunMs = performance.now();
    const ada = await open("ada", "auto", { server });

    t.diagnostic(`in the arena ${Math.round(performance.now() - begunMs)} ms after the page was requested`);
    assert.equal((await answered(ada)).transport, NAMES.ws);
    udp.isBlocked = false;
    await ada.close();
  });
});

/**
 * Adds `throttle()` to a page. It hides the page and throttles the timers of its main thread to one a minute, as a
 * browser does with a tab in the background. Workers and messages are not throttled.
 */
function throttleable(page) {
  return page.addInitScript(() => {
    let isThrottled = false;
    let lastMs = performance.now();
    const whenAllowed = (act) => () => {
      if (isThrottled && performance.now() - lastMs < 60_000) {
        return;
      }
      lastMs = performance.now();
      act();
    };
    const { setInterval, setTimeout } = globalThis;
    globalThis.setInterval = (act, ms) => setInterval(whenAllowed(act), ms);
    globalThis.setTimeout = (act, ms) => (isThrottled ? setTimeout(act, 60_000) : setTimeout(act, ms));
    globalThis.throttle = () => {
      isThrottled = true;
      Object.defineProperty(document, "visibilityState", { get: () => "hidden" });
      document.dispatchEvent(new Event("visibilitychange"));
    };
  });
}

test("a hidden page whose timers are throttled resumes after an outage in which tries failed", async (t) => {
  const tcp = await startTcpRelay();
  const server = await startServer(["--public-url", tcp.url]);
  tcp.target = server.ports.http;
  const ada = await open("ada", "ws", { server, url: tcp.url, prepare: throttleable });
  const before = await answered(ada);
  await ada.page.evaluate(() => globalThis.throttle());

  tcp.isBroken = true;
  tcp.reset();
  await until(ada, ({ state, journal }) => state === "away" && journal.some((entry) => entry.endsWith("trying again")));
  await sleep(1_500);
  tcp.isBroken = false;
  const resumed = await until(ada, ({ state, resumeCount }) => state === "connected" && resumeCount === 1);

  t.diagnostic(told(resumed, "resumed"));
  assert.equal(resumed.session, before.session);
  await ada.close();
  await server.stop();
  await tcp.stop();
});

for (const [transport, name] of Object.entries(NAMES)) {
  test(`a page that is blocked for longer than the link timeout plays on afterwards, over ${name}`, async (t) => {
    const ada = await open("ada", transport);
    const before = await answered(ada);

    // The page gets neither timers nor events for longer than the link timeout. The session does not expire.
    await ada.page.evaluate((ms) => {
      for (const end = performance.now() + ms; performance.now() < end; );
    }, 5_500);

    const resumed = await playsOn(ada, before);
    t.diagnostic(`${told(resumed, "link lost")}; ${told(resumed, "resumed")}`);
    assert.match(told(resumed, "link lost"), /asleep/);
    await ada.close();
  });
}

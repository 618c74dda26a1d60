// Two players in a real Chromium against a real server, once over each transport of browsers.
//
//     cargo build && npm ci && node run.mjs
//
// Nothing here goes by the clock: each step waits until what it wants is so, within a bound that is
// there to end a test that has failed. Screenshots are in `shots/`.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { startServer } from "./server.mjs";

const SHOTS = fileURLToPath(new URL("shots", import.meta.url));
mkdirSync(SHOTS, { recursive: true });

/** Longest wait for anything. */
const BOUND_MS = 30_000;
/** How often is looked. */
const LOOK_MS = 50;
const NAMES = { ws: "websocket", wt: "webtransport" };

let server;
let browser;

before(async () => {
  server = await startServer();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--headless=new",
      "--no-sandbox",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** A page of a player; each has a browser context of its own, so a storage of its own. */
async function open(name, transport, prepare = async () => {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") {
      errors.push(message.text());
    }
  });
  await prepare(page);
  await page.goto(`${server.url}/play?transport=${transport}&name=${name}`);
  const player = { page, name, errors, close: () => context.close() };
  const { me } = await until(player, ({ state, isInArena, me }) => state === "connected" && isInArena && me.id > 0);
  return Object.assign(player, { id: me.id });
}

/** What the page knows: its debugging handle. */
const state = ({ page }) => page.evaluate(() => globalThis.waystation?.state() ?? null);

/** Waits until the page's state is as wanted, and returns it. */
async function until(player, isWanted) {
  const end = performance.now() + BOUND_MS;
  for (;;) {
    // A page that is being loaded has no state.
    const found = await state(player).catch(() => null);
    if (found !== null && isWanted(found)) {
      return found;
    }
    if (performance.now() > end) {
      const log = [...player.errors, ...server.lines.slice(-20)].join("\n");
      assert.fail(`${player.name} waited in vain for ${isWanted}\nand has ${JSON.stringify(found)}\n${log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** Whom another page shows; by number, for those of pages that are closed stay a while. */
const avatarOf = ({ id }, state) => state.avatars.find((avatar) => avatar.id === id);
const way = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
const shot = (player, name) => player.page.screenshot({ path: `${SHOTS}/${name}.png`, fullPage: true });

/** Walks away from the nearest edge until the other sees it. */
async function walk(walker, watcher) {
  const from = avatarOf(walker, await until(watcher, (state) => avatarOf(walker, state) !== undefined));
  const key = from.x < 50 ? "KeyD" : "KeyA";
  await walker.page.keyboard.down(key);
  await until(watcher, (state) => way(avatarOf(walker, state), from) > 8);
  await walker.page.keyboard.up(key);
}

/** Waits until the player's avatar no longer moves. */
async function standing(player) {
  let last = { x: 0, y: 0 };
  return until(player, ({ me }) => {
    const moved = way(me, last);
    last = me;
    return moved === 0;
  });
}

/** Waits until all calls so far are answered, and checks that each was, once. */
async function answered(player) {
  const { says } = await state(player);
  const found = await until(player, (state) => state.says.answered > says.answered && state.says.sent >= says.sent + 2);
  assert.deepEqual([found.says.lost, found.says.doubled], [0, 0], `${player.name}: ${found.journal.join("\n")}`);
  return found;
}

for (const [transport, name] of Object.entries(NAMES)) {
  describe(name, { concurrency: false }, () => {
    let ada;
    let bob;

    before(async () => {
      ada = await open("ada", transport);
      bob = await open("bob", transport);
    });

    after(async () => {
      await ada?.close();
      await bob?.close();
    });

    test("two players see each other move", async () => {
      assert.equal((await state(ada)).transport, name);
      assert.equal((await state(bob)).transport, name);

      await walk(ada, bob);
      await walk(bob, ada);

      // Where the page predicts its own avatar is where the other sees it.
      const { me } = await standing(bob);
      const seen = await until(ada, (state) => way(avatarOf(bob, state), me) < 1);
      assert.equal(avatarOf(bob, seen).name, "bob");
      await shot(ada, `${transport}-1-two-players`);
    });

    test("a page that is cut resumes the same session, with nothing lost or doubled", async () => {
      const before = await answered(ada);

      await ada.page.click("#cut");
      const resumed = await until(ada, (state) => state.resumeCount === 1 && state.state === "connected");

      assert.equal(resumed.session, before.session);
      assert.equal(resumed.me.id, ada.id);
      assert.equal(resumed.transport, name);
      const after = await answered(ada);
      assert.equal(after.session, before.session);
      await walk(ada, bob);
      await shot(ada, `${transport}-2-resumed`);
    });

    test("who is cut for a while is grey to others, and its calls are kept", async () => {
      const before = await answered(ada);

      const away = await ada.page.evaluate(() => {
        document.getElementById("cut-long").click();
        globalThis.waystation.game.say();
        return globalThis.waystation.state();
      });
      await until(bob, (state) => avatarOf(ada, state)?.isLinkdead === true);
      await shot(bob, `${transport}-3-linkdead`);
      await shot(ada, `${transport}-4-away`);
      await until(bob, (state) => avatarOf(ada, state)?.isLinkdead === false);

      const after = await until(ada, (state) => state.state === "connected" && state.says.answered >= away.says.sent);
      assert.equal(after.session, before.session);
      assert.deepEqual([after.says.lost, after.says.doubled], [0, 0]);
      assert.equal(away.state, "away");
      assert.ok(away.says.sent > away.says.answered, "it called while it was away");
    });

    test("a page that is loaded anew goes on with its session and its avatar", async () => {
      const before = await state(ada);

      await ada.page.reload();

      const after = await until(ada, (state) => state.isInArena && state.me.id > 0);
      assert.equal(after.session, before.session);
      assert.equal(after.me.id, ada.id);
      await answered(ada);
      await walk(ada, bob);
      await shot(ada, `${transport}-5-reloaded`);
    });

    test("nothing went wrong in the pages", () => {
      assert.deepEqual([...ada.errors, ...bob.errors], []);
    });
  });
}

test("a session moves from one transport to the other and back", async () => {
  const ada = await open("ada", "auto");
  const before = await answered(ada);
  assert.equal(before.transport, NAMES.wt, "it is the better one");

  for (const transport of ["ws", "wt"]) {
    await ada.page.selectOption("#transport", transport);
    const moved = await until(ada, (state) => state.transport === NAMES[transport] && state.state === "connected");
    assert.equal(moved.session, before.session);
    await answered(ada);
  }
  await ada.close();
});

test("where WebTransport does not open, WebSocket takes its place", async () => {
  const ada = await open("ada", "auto", async (page) => {
    await page.route("**/v1/connect", async (route) => {
      const answer = await route.fetch();
      const offer = await answer.json();
      // Nobody listens there.
      offer.webtransport.url = "https://127.0.0.1:9/wt";
      await route.fulfill({ response: answer, json: offer });
    });
  });

  assert.equal((await answered(ada)).transport, NAMES.ws);
  await ada.close();
});

test("the page fits a phone", async () => {
  const ada = await open("ada", "ws");

  await ada.page.setViewportSize({ width: 375, height: 760 });

  const wide = await ada.page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 375, `${wide} pixels wide`);
  const box = await ada.page.locator("#plane").boundingBox();
  const from = (await state(ada)).me;
  await ada.page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await ada.page.mouse.down();
  await until(ada, (state) => way(state.me, from) > 2 || way(state.me, { x: 50, y: 50 }) < 2);
  await ada.page.mouse.up();
  await shot(ada, "phone");
  await ada.close();
});

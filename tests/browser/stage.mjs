// The server and the browser that all tests share, and functions that wait for pages.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { startServer } from "./server.mjs";

const SHOTS = fileURLToPath(new URL("shots", import.meta.url));
mkdirSync(SHOTS, { recursive: true });

/** The longest wait for a condition. */
const BOUND_MS = 30_000;
/** The pause between two checks of a condition. */
const LOOK_MS = 50;
/** The names of transports in the page's state, by their names in its URL. */
export const NAMES = { ws: "websocket", wt: "webtransport" };

/** The server and the browser of all tests. They start before the first test. */
export const stage = { server: undefined, browser: undefined };

before(async () => {
  stage.server = await startServer();
  stage.browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--headless=new",
      "--no-sandbox",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // A page that a test serves itself has no address, so Chromium would not let it connect to this machine.
      "--disable-features=LocalNetworkAccessChecks",
    ],
  });
});

after(async () => {
  await stage.browser?.close();
  await stage.server?.stop();
});

/** Opens the page for a player, in a browser context with a storage of its own. */
export async function open(name, transport, { prepare = async () => {}, server = stage.server, url = server.url } = {}) {
  const context = await stage.browser.newContext({ viewport: { width: 1280, height: 860 } });
  await usePageOf(context);
  const page = await context.newPage();
  const player = watch(page, name, server);
  await prepare(page);
  await page.goto(`${url}/play?transport=${transport}&name=${name}`);
  const { me } = await inArena(player);
  return Object.assign(player, { id: me.id });
}

/** Makes a player of a page. Collects the errors of the page; `close` closes its context. */
export function watch(page, name, server = stage.server) {
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") {
      errors.push(message.text());
    }
  });
  return { page, name, server, errors, close: () => page.context().close() };
}

/** Serves the page's files from `PAGE_FOLDER`, if it is set. */
async function usePageOf(context) {
  const directory = process.env.PAGE_FOLDER;
  if (directory !== undefined) {
    await context.route(/\/play(\/play\.(js|css))?(\?.*)?$/, async (route) => {
      const response = await route.fetch();
      const file = /play\.(js|css)/.exec(route.request().url())?.[0] ?? "index.html";
      await route.fulfill({ response, path: `${directory}/${file}` });
    });
  }
}

/** Returns the state of the page, from its debugging handle. */
export const state = ({ page }) => page.evaluate(() => globalThis.waystation?.state() ?? null);

/** Waits until the page's state fulfils a condition, and returns the state. */
export async function until(player, isWanted) {
  const end = performance.now() + BOUND_MS;
  for (;;) {
    // A page that loads has no state yet.
    const found = await state(player).catch(() => null);
    if (found !== null && isWanted(found)) {
      return found;
    }
    if (performance.now() > end) {
      const log = [...player.errors, ...player.server.lines.slice(-20)].join("\n");
      assert.fail(`${player.name} has timed out on ${isWanted}\nin the state ${JSON.stringify({ ...found, avatars: undefined })}\n${log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** Waits until the player has an avatar. */
export const inArena = (player) =>
  until(player, ({ state, isInArena, me }) => state === "connected" && isInArena && me.id > 0);

/** Returns the avatar of a player in the state of another page. By id, because avatars of closed pages stay for a while. */
export const avatarOf = ({ id }, state) => state.avatars.find((avatar) => avatar.id === id);
/** Returns the distance of two points. */
export const way = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
/** Takes a screenshot. */
export const shot = (player, name) => player.page.screenshot({ path: `${SHOTS}/${name}.png`, fullPage: true });

/** Waits until further calls are answered, and checks that no call was lost or duplicated. */
export async function answered(player) {
  const { says } = await state(player);
  const found = await until(player, (state) => state.says.answered > says.answered && state.says.sent >= says.sent + 2);
  assert.deepEqual([found.says.lost, found.says.doubled], [0, 0], `${player.name}: ${found.journal.join("\n")}`);
  return found;
}

// Tests tabs: each tab is a player of its own, also if it is a duplicate of another tab.

import assert from "node:assert/strict";
import { test } from "node:test";
import { answered, inArena, open, state, watch } from "./stage.mjs";

/** Duplicates a tab. The new page has a copy of the session storage. */
async function duplicate(player, name) {
  const opened = player.page.waitForEvent("popup");
  await player.page.evaluate(() => void window.open(location.href));
  const copy = watch(await opened, name, player.server);
  const { me } = await inArena(copy);
  return Object.assign(copy, { id: me.id });
}

/** Removes Web Locks from a page. Pages over plain HTTP from another machine have no Web Locks. */
const withoutLocks = (page) =>
  page.context().addInitScript(() => Object.defineProperty(Navigator.prototype, "locks", { value: undefined }));

for (const [how, prepare] of [["by locks", async () => {}], ["by asking", withoutLocks]]) {
  test(`a duplicated tab is a second player, and both keep their sessions over a reload, ${how}`, async () => {
    const ada = await open("ada", "ws", { prepare });
    const before = await answered(ada);

    const copy = await duplicate(ada, "copy");

    const second = await answered(copy);
    assert.notEqual(second.session, before.session);
    assert.notEqual(copy.id, ada.id);
    const first = await answered(ada);
    assert.deepEqual([first.session, first.resumeCount, first.state], [before.session, 0, "connected"]);
    for (const [player, session] of [[ada, before.session], [copy, second.session]]) {
      await player.page.reload();
      await inArena(player);
      assert.equal((await answered(player)).session, session, `${player.name} was reloaded`);
    }
    assert.deepEqual([...ada.errors, ...copy.errors], []);
    await ada.close();
  });
}

test("a tab that has crashed releases its claim, and its session can be resumed", async () => {
  const ada = await open("ada", "ws");
  const before = await answered(ada);
  const kept = await ada.page.evaluate(() => ({ ...sessionStorage }));
  // This page has a process of its own, because the first page has not opened it. `/healthz` has the same origin.
  const copy = watch(await ada.page.context().newPage(), "copy");
  await copy.page.goto(`${ada.server.url}/healthz`);
  await copy.page.evaluate((kept) => Object.assign(sessionStorage, kept), kept);

  const crashed = ada.page.waitForEvent("crash");
  const devtools = await ada.page.context().newCDPSession(ada.page);
  devtools.send("Page.crash").catch(() => undefined);
  await crashed;
  await copy.page.goto(`${ada.server.url}/play?transport=ws`);

  const { me } = await inArena(copy);
  assert.equal((await state(copy)).session, before.session);
  assert.equal(me.id, ada.id);
  await copy.close();
});

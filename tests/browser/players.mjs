// Tests two players, over each transport of browsers.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { NAMES, answered, avatarOf, open, shot, state, until, way } from "./stage.mjs";

/** Walks away from the nearest edge until the other page shows it. */
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

      // The page's prediction for its own avatar agrees with what the other page shows.
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

    test("a player without a link is grey on other pages, and its calls are kept", async () => {
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
      assert.ok(away.says.sent > away.says.answered, "it sends calls while it has no link");
    });

    test("a reloaded page goes on with its session and its avatar", async () => {
      const before = await state(ada);

      await ada.page.reload();

      const after = await until(ada, (state) => state.isInArena && state.me.id > 0);
      assert.equal(after.session, before.session);
      assert.equal(after.me.id, ada.id);
      await answered(ada);
      await walk(ada, bob);
      await shot(ada, `${transport}-5-reloaded`);
    });

    test("the pages have logged no errors", () => {
      assert.deepEqual([...ada.errors, ...bob.errors], []);
    });
  });
}

test("a session moves from one transport to the other and back", async () => {
  const ada = await open("ada", "auto");
  const before = await answered(ada);
  assert.equal(before.transport, NAMES.wt, "it is the first choice");

  for (const transport of ["ws", "wt"]) {
    await ada.page.selectOption("#transport", transport);
    const moved = await until(ada, (state) => state.transport === NAMES[transport] && state.state === "connected");
    assert.equal(moved.session, before.session);
    await answered(ada);
  }
  await ada.close();
});

test("a page uses WebSocket if WebTransport does not open", async () => {
  const ada = await open("ada", "auto", {
    prepare: (page) =>
      page.route("**/v1/connect", async (route) => {
        const answer = await route.fetch();
        const offer = await answer.json();
        // No server listens on this port.
        offer.offers.find(({ transport }) => transport === "webtransport").url = "https://127.0.0.1:9/wt";
        await route.fulfill({ response: answer, json: offer });
      }),
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

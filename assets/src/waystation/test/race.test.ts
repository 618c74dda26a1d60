// Tests links over several transports: the race of openings, the one Hello, and spares.

import assert from "node:assert/strict";
import { test } from "node:test";
import { BeaconSchema, ClosedSchema, DeniedSchema, HelloSchema } from "../../gen/waystation/v1/link_pb";
import type { Config } from "../config";
import { Reason } from "../wire";
import { Scene, type ServerLink, settled } from "./scripted";

const both = (config: Partial<Config> = {}): Scene => {
  const scene = new Scene(config);
  scene.offer = ["webtransport", "websocket"];
  return scene;
};

/** Returns the links that have carried a Hello. */
const greeted = ({ links }: Scene): ServerLink[] => links.filter((link) => link.got(HelloSchema).length > 0);

/** Opens a session over WebTransport. Its link has lasted, so that the next try needs no pause. */
async function playing(config: Partial<Config> = {}) {
  const scene = both(config);
  const link = await scene.dialled(1);
  link.accept({ timeoutMs: 5_000 });
  await scene.pass(1_000);
  link.say(BeaconSchema, { id: 1n, latencyMs: 20 });
  return { scene, link };
}

test("WebTransport starts first, WebSocket 400 ms later, and the first open link carries the one Hello", async () => {
  for (const first of ["webtransport", "websocket"] as const) {
    const scene = both();
    const start = await scene.dialled(1);
    const startedMs = scene.nowMs;
    const second = await scene.dialled(2);
    assert.deepEqual([start.name, second.name], ["webtransport", "websocket"]);
    assert.equal(scene.nowMs - startedMs, 400);

    const [winner, loser] = first === "webtransport" ? [start, second] : [second, start];
    winner.accept();
    loser.events.onOpen();

    assert.deepEqual(greeted(scene), [winner]);
    assert.deepEqual([winner.isClosed, loser.isClosed, loser.sent.length], [false, true, 0]);
    assert.equal(scene.client.transport, first);
    await scene.pass(2_000);
    assert.equal(scene.links.length, 2, "no further link is opened");
  }
});

test("the second transport is not dialled if the first one opens at once", async () => {
  const scene = both();
  (await scene.dialled(1)).accept();

  await scene.pass(2_000);

  assert.equal(scene.links.length, 1);
});

test("transports start again independently: after a failure, and after a timeout", async () => {
  const scene = both();
  await scene.dialled(2);

  for (let failures = 0; failures < 4; failures += 1) {
    scene.over("websocket").at(-1)?.events.onClose("refused");
    await scene.pass(350);
  }
  assert.equal(scene.over("websocket").length, 5);
  assert.deepEqual(scene.types(), [], "WebTransport has not failed yet");
  await scene.pass(900);

  // Both have failed, so this try is over, because there is no session. The next try asks discovery again.
  assert.deepEqual(scene.types(), ["try-failed"]);
  assert.ok(scene.links.every(({ isClosed }, index) => isClosed || index === scene.links.length - 1));
});

test("WebTransport starts again only after 2.5 s, even if it fails at once", async () => {
  const { scene, link } = await playing();
  link.events.onClose("reset");
  await settled();
  scene.over("webtransport").at(-1)?.events.onClose("refused");

  await scene.pass(2_400);
  assert.equal(scene.over("webtransport").length, 2);
  await scene.pass(200);
  assert.equal(scene.over("webtransport").length, 3);
});

test("while the session can be resumed, one opening follows an opening that timed out", async () => {
  const { scene, link } = await playing();
  link.events.onClose("reset");
  await scene.pass(2_700);

  // WebTransport at 0 and 2,500 ms; WebSocket at 400 ms, and it still has time.
  assert.equal(scene.over("webtransport").filter(({ isClosed }) => !isClosed).length, 1);
  assert.equal(scene.over("webtransport").length, 3);
  assert.equal(scene.over("websocket").length, 1);
});

test("after 2.5 s without an answer the Hello is sent over another transport, and the first link is not read", async () => {
  const scene = both();
  const mute = await scene.dialled(1);
  mute.events.onOpen();
  await scene.pass(2_400);
  assert.equal(mute.isClosed, false);

  const next = await scene.dialled(2);
  assert.equal(mute.isClosed, true);
  assert.equal(next.name, "websocket");
  next.accept();
  mute.say(DeniedSchema, { reason: Reason.KICKED });
  assert.equal(scene.client.state, "connected");
  assert.equal(mute.got(HelloSchema).length, 1);
});

test("on a slow network a Hello waits for three round trips", async () => {
  const scene = both();
  const link = await scene.dialled(1);
  scene.nowMs += 2_400;
  link.events.onOpen();

  await scene.pass(3_500);
  assert.equal(link.isClosed, false);
  await scene.pass(200);
  assert.equal(link.isClosed, true);
});

test("after 2.5 s of silence a spare is opened, which carries the Hello when the link is lost", async () => {
  const { scene, link } = await playing();

  await scene.pass(2_450);
  assert.equal(scene.links.length, 1);
  await scene.pass(100);
  const spare = scene.links[1];
  assert.equal(spare?.name, "websocket");
  spare.events.onOpen();
  await scene.pass(2_300);
  assert.deepEqual(spare.sent, [], "no frame is sent before the link is lost");
  await scene.pass(200);

  assert.equal(link.isClosed, true);
  assert.equal(spare.got(HelloSchema).length, 1);
  assert.deepEqual(spare.got(HelloSchema)[0]?.resume?.token, new Uint8Array([1]));
  assert.equal(scene.links.length, 2);
});

test("a spare is closed when a frame arrives on the link, and replaced when the server closes it", async () => {
  const { scene, link } = await playing();
  await scene.pass(2_550);
  const spare = scene.links[1];
  assert.ok(spare !== undefined);
  spare.events.onOpen();
  spare.events.onClose("no Hello");
  await scene.pass(400);
  const second = scene.links[2];
  assert.ok(second !== undefined && second.name === "websocket");

  link.say(BeaconSchema, { id: 2n });

  assert.equal(second.isClosed, true);
  assert.deepEqual([...spare.sent, ...second.sent], []);
  await scene.pass(2_000);
  assert.equal(scene.links.length, 3);
});

test("a spare is opened while a resume has no answer, and carries the next Hello", async () => {
  const { scene, link } = await playing();
  link.events.onClose("reset");
  const first = await scene.dialled(2);
  first.events.onOpen();
  const count = scene.links.length;

  await scene.pass(950);
  assert.equal(scene.links.length, count, "no spare yet");
  await scene.pass(500);
  const spare = scene.links.at(-1);
  assert.ok(spare !== undefined && scene.links.length > count);
  spare.events.onOpen();
  await scene.pass(1_500);

  assert.equal(first.isClosed, true);
  assert.equal(spare.got(HelloSchema).length, 1, "without another dial");
  spare.accept({ resumed: true, token: new Uint8Array([2]) });
  assert.deepEqual(scene.types().at(-1), "resumed");
});

test("the transport that has worked starts first, and the one that was silent starts last", async () => {
  const { scene } = await playing();
  await scene.pass(5_100);
  const second = scene.over("websocket").at(-1);
  assert.ok(second !== undefined);
  second.accept({ resumed: true, timeoutMs: 5_000 });
  assert.equal(scene.client.transport, "websocket");
  await scene.pass(1_000);

  const count = scene.links.length;
  second.events.onClose("reset");
  await settled();
  assert.equal(scene.links.at(-1)?.name, "websocket", "it has worked last");
  const third = scene.links.at(-1);
  third?.accept({ resumed: true, timeoutMs: 5_000 });
  assert.equal(scene.links.length, count + 1);

  scene.client.move();
  await settled();
  assert.equal(scene.links.at(-1)?.name, "webtransport", "after a move the best transport is first");
});

test("a page that was asleep for the link timeout dials at once, and does not read its link", async () => {
  const { scene, link } = await playing();
  scene.nowMs += 5_000;

  link.say(ClosedSchema, { reason: Reason.KICKED });
  await settled();

  assert.equal(link.isClosed, true);
  assert.deepEqual(scene.types(), ["connected", "link-lost"]);
  assert.equal(scene.links.length, 2);
  scene.links[1]?.accept({ resumed: true });
  assert.equal(scene.client.state, "connected");
});

test("a page that slept for less handles arrived frames before its link counts as silent", async () => {
  const { scene, link } = await playing();
  scene.nowMs += 4_900;
  scene.client.update();

  link.say(BeaconSchema, { id: 2n });
  await scene.pass(2_000);

  assert.equal(scene.client.state, "connected");
  assert.equal(scene.links.length, 1);
});

test("while the session is kept, tries follow within 300 ms and do not count; then pauses grow", async () => {
  const scene = new Scene({ tries: 3 });
  (await scene.dialled(1)).accept({ timeoutMs: 5_000 });
  await scene.pass(1_000);
  const startsMs = [scene.nowMs];
  scene.links[0]?.events.onClose("reset");

  const lostAtMs = scene.nowMs;
  for (let known = 1; scene.nowMs - lostAtMs < 7_000; ) {
    await scene.pass(50);
    for (; known < scene.links.length; known += 1) {
      startsMs.push(scene.nowMs);
      scene.links[known]?.events.onClose("refused");
    }
  }

  const gaps = startsMs.slice(1).map((atMs, index) => atMs - (startsMs[index] ?? 0));
  assert.ok(gaps.length > 20 && gaps.every((gap) => gap <= 350), gaps.join());
  const state = () => scene.client.state;
  assert.equal(state(), "away");
  for (let looks = 0; state() !== "stopped" && looks < 200; looks += 1) {
    await scene.pass(50);
    scene.links.at(-1)?.events.onClose("refused");
  }
  assert.equal(state(), "stopped", "tries count when the session has expired");
});

test("discovery that fails while the session is kept is asked again soon", async () => {
  const { scene, link } = await playing();
  scene.isFound = false;
  link.events.onClose("reset");
  await scene.pass(1_000);
  assert.equal(scene.links.length, 1);

  scene.isFound = true;
  await scene.pass(300);

  assert.equal(scene.links.length, 2);
});

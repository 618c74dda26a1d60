// Tests the page's arithmetic: interpolation, prediction, and the check by numbered calls.

import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ScoresSchema, SnapshotSchema } from "../../gen/arena/v1/arena_pb";
import { SessionStorageStore } from "../../waystation";
import { chooseName } from "../names";
import { Prediction, SPEED } from "../prediction";
import { Says } from "../says";
import { TickClock, World } from "../world";

function snapshot(tick: number, ids: number[], x: number, flags = 0, chunk = 0, chunks = 1) {
  return create(SnapshotSchema, {
    tick: BigInt(tick),
    chunk,
    chunks,
    id: ids,
    x: ids.map(() => x * 100),
    y: ids.map(() => 1_000),
    flags: ids.map(() => flags),
  });
}

const near = (actual: number | undefined, expected: number, within: number) =>
  assert.ok(Math.abs((actual ?? NaN) - expected) <= within, `${actual} is not within ${within} of ${expected}`);

test("a page plays without storage if the browser forbids it", (t) => {
  const before = Object.getOwnPropertyDescriptor(globalThis, "sessionStorage");
  const forbidden = () => {
    throw new Error("SecurityError");
  };
  Object.defineProperty(globalThis, "sessionStorage", { configurable: true, get: forbidden });
  t.after(() => Object.defineProperty(globalThis, "sessionStorage", before ?? { configurable: true, value: undefined }));
  const store = new SessionStorageStore("game");

  store.save(new Uint8Array([1]));
  assert.equal(store.load(), undefined);
  store.clear();
  assert.equal(chooseName("ada"), "ada");
  assert.notEqual(chooseName(null), "");
});

test("an avatar is interpolated between two snapshots, 100 ms late", () => {
  const world = new World();
  world.takeSnapshot(snapshot(1, [1], 10), 1_000);
  world.takeSnapshot(snapshot(2, [1], 20), 1_050);

  near(world.avatars(1_125)[0]?.x, 15, 0.01);
  near(world.avatars(1_150)[0]?.x, 20, 0.01);
  near(world.avatars(5_000)[0]?.x, 40, 0.01);
});

test("a stale or duplicated snapshot changes nothing", () => {
  const world = new World();
  world.takeSnapshot(snapshot(2, [1], 20), 1_000);

  world.takeSnapshot(snapshot(1, [1], 90), 1_010);
  world.takeSnapshot(snapshot(2, [1], 90), 1_020);

  assert.equal(world.newest(1)?.x, 20);
});

test("the flags mark agents, avatars without a link, and the newest input that was applied", () => {
  const world = new World();
  world.takeSnapshot(snapshot(1, [1], 10, 0b1_0011_11), 0);

  const [avatar] = world.avatars(0);
  assert.equal(avatar?.isAgent && avatar.isLinkdead, true);
  assert.equal(world.newest(1)?.inputBits, 0b1_0011);
});

test("an avatar that is in no chunk of a tick is removed when all chunks have arrived", () => {
  const world = new World();
  world.takeSnapshot(snapshot(1, [1], 10, 0, 0, 2), 0);
  world.takeSnapshot(snapshot(1, [2], 10, 0, 1, 2), 0);

  world.takeSnapshot(snapshot(2, [1], 10, 0, 0, 2), 50);
  assert.equal(world.avatars(50).length, 2);
  world.takeSnapshot(snapshot(2, [3], 10, 0, 1, 2), 50);

  assert.deepEqual(world.avatars(50).map(({ id }) => id), [1, 3]);
});

test("names and scores are ranked, and removed with their avatars", () => {
  const world = new World();
  world.takeScores(create(ScoresSchema, { scores: [{ id: 1, name: "ada", score: 1 }, { id: 2, name: "bob", score: 5 }] }));
  assert.deepEqual(world.ranking().map(({ name }) => name), ["bob", "ada"]);

  world.takeScores(create(ScoresSchema, { scores: [{ id: 2, gone: true }] }));

  assert.deepEqual(world.ranking().map(({ name }) => name), ["ada"]);
});

test("the tick clock removes the jitter of arrivals, and learns another period", () => {
  const clock = new TickClock();
  let last = 0;
  for (let tick = 1; tick <= 100; tick += 1) {
    const at = clock.timeOf(tick, tick * 50 + (tick % 2) * 30);
    if (tick > 50) {
      near(at - last, 50, 8);
    }
    last = at;
  }
  for (let tick = 101; tick <= 300; tick += 1) {
    last = clock.timeOf(tick, 5_000 + (tick - 100) * 100);
  }
  near(last, 25_000, 10);
});

test("the client's own avatar moves at once, and positions that agree with the prediction change nothing", () => {
  const size = { x: 100, y: 100 };
  const prediction = new Prediction();
  const steps: number[] = [];
  let before = 50;
  // The server receives an input 40 ms after it was sent, and its snapshot arrives 40 ms later.
  for (let now = 0; now <= 2_000; now += 10) {
    if (now % 50 === 0) {
      prediction.wish({ x: now >= 500 ? 1 : 0, y: 0 }, now);
      const taken = Math.floor(Math.max(0, now - 80) / 50);
      const moved = Math.max(0, taken - 9);
      const x = 50 + (SPEED * moved * 50) / 1_000;
      prediction.correct({ x, y: 50, atMs: now, inputBits: (taken + 1) & 31 }, now, size);
    }
    const x = prediction.shown(now, size)?.x ?? 0;
    steps.push(x - before);
    before = x;
  }

  assert.ok((steps[55] ?? 0) > 0.05, "it moves before a snapshot includes the input");
  for (const step of steps.slice(100)) {
    near(step, SPEED / 100, 0.05);
  }
});

test("an avatar that the game has moved far is shown there at once, and stops at the edge", () => {
  const size = { x: 100, y: 100 };
  const prediction = new Prediction();
  prediction.correct({ x: 10, y: 10, atMs: 0, inputBits: 0 }, 0, size);
  prediction.shown(0, size);

  prediction.correct({ x: 99.9, y: 10, atMs: 50, inputBits: 0 }, 50, size);
  prediction.wish({ x: 1, y: 0 }, 50);

  near(prediction.shown(50, size)?.x, 99.9, 0.001);
  assert.equal(prediction.shown(1_000, size)?.x, 100);
});

test("numbered calls detect lost, duplicated and repeated calls", () => {
  const says = new Says();
  says.echoed(1n, 1n);
  says.echoed(2n, 2n);
  assert.deepEqual([says.answeredCount, says.lost, says.doubled], [2, 0, 0]);

  says.echoed(2n, 3n);
  assert.equal(says.doubled, 1);
  says.echoed(4n, 4n);
  assert.equal(says.lost, 1);
  says.echoed(5n, 6n);
  assert.equal(says.doubled, 2);

  says.resync();
  says.echoed(1n, 90n);
  says.echoed(2n, 91n);
  assert.deepEqual([says.lost, says.doubled], [1, 2]);
});

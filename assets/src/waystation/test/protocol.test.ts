// Tests the client's side of the protocol against a scripted server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EchoSchema, InputSchema, SaySchema } from "../../gen/arena/v1/arena_pb";
import {
  AckSchema,
  BeaconSchema,
  ByeSchema,
  ClosedSchema,
  DeniedSchema,
  HelloSchema,
  PingSchema,
} from "../../gen/waystation/v1/link_pb";
import { Reason, idOf, laneOf, rangeOf } from "../wire";
import { Scene, settled } from "./scripted";

test("message ids come from the .proto files, and bit 15 is the lane", () => {
  assert.equal(idOf(HelloSchema), 0x0001);
  assert.equal(idOf(PingSchema), 0x8002);
  assert.equal(laneOf(idOf(InputSchema)), "unreliable");
  const ranges = [0x3f, 0x40, 0xff, 0x100, 0x7fff, 0x8000, 0x80ff, 0x8100, 0xffff].map(rangeOf);
  assert.deepEqual(ranges, [
    "link", "session", "session", "game", "game", "link", "link", "game-unreliable", "game-unreliable",
  ]);
});

test("the token of a new session is stored before the Ack that follows Welcome", async () => {
  const scene = new Scene({ name: "ada", game: "arena/1" });

  const link = await scene.dialled(1);
  const hello = link.accept();

  assert.equal(hello?.protocol, 1);
  assert.equal(hello?.game, "arena/1");
  assert.deepEqual(hello?.credentials?.kind.case, "anonymous");
  assert.deepEqual(scene.types(), ["connected"]);
  assert.equal(scene.client.session, 7n);
  assert.deepEqual(scene.history, ["sent 1", "token 1", "sent 6"]);
});

test("a server that breaks the protocol of the transport ends the session, and is not dialled again", async () => {
  const scene = new Scene();
  const link = await scene.connected();

  link.events.onBreach("a text");
  await scene.pass(10_000);

  assert.deepEqual(scene.types(), ["connected", "session-lost", "closed"]);
  assert.deepEqual(scene.events.at(-1), { type: "closed", reason: Reason.PROTOCOL, detail: "a text" });
  assert.equal(scene.links.length, 1);
});

test("before Welcome a client ignores all frames but the answers to its Hello", async () => {
  const scene = new Scene();
  const link = await scene.dialled(1);
  link.events.onOpen();

  link.say(BeaconSchema, { id: 1n });
  link.say(EchoSchema, { number: 1n });

  assert.deepEqual(scene.events, []);
  assert.equal(link.sent.length, 1);
});

test("counted frames are acknowledged after 64 frames, or 1 s after the first one", async () => {
  const scene = new Scene();
  const link = await scene.connected();

  for (let number = 1n; number <= 63n; number += 1n) {
    link.say(EchoSchema, { number });
  }
  assert.equal(link.got(AckSchema).length, 1);
  link.say(EchoSchema, { number: 64n });
  assert.equal(link.acked(), 64n);

  link.say(EchoSchema, { number: 65n });
  await scene.pass(950);
  assert.equal(link.acked(), 64n);
  await scene.pass(100);
  assert.equal(link.acked(), 65n);
  assert.equal(scene.types().filter((type) => type === "message").length, 65);
});

test("a Beacon is answered at once, its ack trims the outbox, and its latency is reported", async () => {
  const scene = new Scene();
  const link = await scene.connected();
  scene.client.send(SaySchema, { number: 1n });

  link.say(BeaconSchema, { id: 9n, received: 1n, latencyMs: 12 });

  assert.deepEqual(link.got(PingSchema).map(({ id }) => id), [9n]);
  assert.equal(scene.client.latencyMs, 12);
  assert.deepEqual(scene.client.counts, { sent: 1n, acked: 1n, received: 0n });
});

test("an idle client sends an Ack at least every half of the link timeout", async () => {
  const scene = new Scene();
  const link = await scene.connected();

  await scene.pass(2_500);

  assert.ok(link.got(AckSchema).length >= 2);
});

test("after 5 s of silence the link is lost, and the session is resumed", async () => {
  const scene = new Scene({ silenceMs: 60_000 });
  const link = await scene.connected();
  link.say(EchoSchema, { number: 1n });

  await scene.pass(4_900);
  assert.deepEqual(scene.client.state, "connected");
  await scene.pass(200);
  assert.equal(link.isClosed, true);

  const second = await scene.dialled(2);
  const hello = second.accept({ resumed: true, base: 1n, token: new Uint8Array([2]) });
  assert.deepEqual(hello?.resume?.token, new Uint8Array([1]));
  assert.equal(hello?.resume?.received, 1n);
  assert.equal(hello?.resume?.resync, false);
  assert.equal(hello?.credentials, undefined);
  assert.deepEqual(scene.types(), ["connected", "message", "link-lost", "resumed"]);
});

for (const [offer, tells, expected] of [
  ["websocket", true, ["connected", "link-lost", "resumed"]],
  ["websocket", false, ["connected"]],
  ["webtransport", true, ["connected"]],
] as const) {
  test(`over ${offer}, a server that ${tells ? "sends" : "does not send"} \`echoed\` receives no Pings`, async () => {
    const scene = new Scene({ silenceMs: 60_000 });
    scene.offer = [offer];
    const link = await scene.connected();
    for (let id = 1n; id <= 8n; id += 1n) {
      link.say(BeaconSchema, tells ? { id, echoed: 0n } : { id });
      await scene.pass(1_000);
    }
    const isLost = link.isClosed;
    for (const second of scene.links.slice(1)) {
      second.accept({ resumed: true, token: new Uint8Array([2]) });
    }

    assert.equal(isLost, expected.length > 1);
    assert.deepEqual(scene.types(), expected);
  });
}

test("a stream whose round trip is shorter than four seconds is kept", async () => {
  const scene = new Scene({ silenceMs: 60_000 });
  const link = await scene.connected();

  for (let id = 1n; id <= 48n; id += 1n) {
    link.say(BeaconSchema, { id, echoed: id > 4n ? id - 4n : 0n });
    await scene.pass(1_000);
  }

  assert.deepEqual(scene.types(), ["connected"]);
});

test("frames that the server has not counted are sent again, in order, and counted ones are not", async () => {
  const scene = new Scene();
  const first = await scene.connected();
  for (const number of [1n, 2n, 3n]) {
    scene.client.send(SaySchema, { number });
  }
  assert.equal(first.got(SaySchema).length, 3);

  scene.client.cut();
  scene.client.send(SaySchema, { number: 4n });
  const second = await scene.dialled(2);
  second.accept({ resumed: true, received: 2n, base: 0n });

  assert.deepEqual(second.got(SaySchema).map(({ number }) => number), [3n, 4n]);
  assert.deepEqual(second.sent.map(({ id }) => id), [1, 6, 0x101, 0x101], "Ack first");
});

test("a frame of an older link is neither counted nor reported", async () => {
  const scene = new Scene();
  const first = await scene.connected();

  scene.client.cut();
  first.say(EchoSchema, { number: 1n });
  first.events.onClose("late");
  const second = await scene.dialled(2);
  const hello = second.accept({ resumed: true });

  assert.equal(hello?.resume?.received, 0n);
  assert.deepEqual(scene.types(), ["connected", "link-lost", "resumed"]);
});

test("the client adopts the base and the resync of a Welcome", async () => {
  const scene = new Scene();
  const first = await scene.connected();
  first.say(EchoSchema, { number: 1n });

  scene.client.cut();
  const second = await scene.dialled(2);
  second.accept({ resumed: true, base: 40n, resync: true });
  second.say(EchoSchema, { number: 2n });
  await scene.pass(1_100);

  assert.equal(second.acked(), 41n);
  assert.deepEqual(scene.events.filter(({ type }) => type === "resumed"), [
    { type: "resumed", session: 7n, resync: true },
  ]);
});

test("a page that kept only its token resumes with resync and counts on from the server's count", async () => {
  const scene = new Scene({}, new Uint8Array([5]));
  const link = await scene.dialled(1);
  const hello = link.accept({ resumed: true, received: 12n, base: 30n, resync: true, token: new Uint8Array([6]) });
  scene.client.send(SaySchema, { number: 1n });
  link.say(BeaconSchema, { id: 1n, received: 13n });

  assert.deepEqual(hello?.resume?.token, new Uint8Array([5]));
  assert.equal(hello?.resume?.resync, true);
  assert.deepEqual(scene.token, new Uint8Array([6]));
  assert.deepEqual(scene.client.counts, { sent: 13n, acked: 13n, received: 30n });
});

test("after a refused token a new session begins on the same link, and unacknowledged messages are reported", async () => {
  const scene = new Scene();
  await scene.connected();
  scene.client.cut();
  scene.client.send(SaySchema, { number: 1n });
  const link = await scene.dialled(2);
  link.events.onOpen();

  link.say(DeniedSchema, { reason: Reason.TOKEN });

  const hellos = link.got(HelloSchema);
  assert.equal(hellos.length, 2);
  assert.equal(hellos[1]?.resume, undefined);
  assert.deepEqual(scene.events.at(-1), { type: "session-lost", unacked: 1, reason: Reason.TOKEN });
  assert.equal(scene.token, undefined);
});

test("a final reason stops the client, and after others it resumes when `retry_after_ms` has passed", async () => {
  for (const reason of [Reason.KICKED, Reason.CONFLICT, Reason.REPLACED, Reason.VERSION, Reason.PROTOCOL]) {
    const scene = new Scene();
    const link = await scene.connected();
    link.say(ClosedSchema, { reason });
    await scene.pass(10_000);
    assert.equal(scene.client.state, "stopped", Reason[reason]);
    assert.equal(scene.links.length, 1);
    assert.equal(scene.token, undefined);
  }
  for (const reason of [Reason.SLOW, Reason.TIMEOUT, Reason.DROPPED, Reason.SHUTDOWN]) {
    const scene = new Scene();
    const link = await scene.connected();
    link.say(ClosedSchema, { reason, retryAfterMs: 3_000 });
    await scene.pass(2_900);
    assert.equal(scene.links.length, 1, Reason[reason]);
    await scene.pass(300);
    assert.equal(scene.links.length, 2);
  }
});

test("after Denied(DRAINING) the client waits for `retry_after_ms`", async () => {
  const scene = new Scene();
  const link = await scene.dialled(1);
  link.events.onOpen();
  link.say(DeniedSchema, { reason: Reason.DRAINING, retryAfterMs: 4_000 });

  await scene.pass(3_900);
  assert.equal(scene.links.length, 1);
  await scene.pass(300);
  assert.equal(scene.links.length, 2);
});

test("a counted frame on the unreliable lane, and an ack above what was sent, are offences of the server", async () => {
  const lane = new Scene();
  (await lane.connected()).say(EchoSchema, { number: 1n }, "unreliable");
  const beyond = new Scene();
  (await beyond.connected()).say(AckSchema, { received: 1n });

  for (const scene of [lane, beyond]) {
    assert.equal(scene.client.state, "stopped");
    assert.equal(scene.events.at(-1)?.type, "closed");
  }
});

test("a full outbox refuses frames until the server acknowledges some", async () => {
  const scene = new Scene();
  const link = await scene.connected();
  link.hasRoom = false;

  for (let number = 1n; number <= 512n; number += 1n) {
    assert.equal(scene.client.send(SaySchema, { number }), undefined);
  }
  assert.equal(scene.client.send(SaySchema, { number: 513n }), "full");
  link.hasRoom = true;
  await scene.pass(50);
  link.say(AckSchema, { received: 1n });

  assert.equal(scene.client.send(SaySchema, { number: 513n }), undefined);
  assert.equal(link.got(SaySchema).length, 513);
});

test("unreliable messages without a link, and link control, are refused", async () => {
  const scene = new Scene();
  assert.equal(scene.client.send(InputSchema, { tick: 1n }), "no-session");
  await scene.connected();
  assert.equal(scene.client.send(InputSchema, { tick: 1n }), undefined);
  assert.equal(scene.client.send(AckSchema, { received: 1n }), "link-control");

  scene.client.cut(1_000);

  assert.equal(scene.client.send(InputSchema, { tick: 2n }), "dropped");
});

test("an opening is abandoned after 2.5 s, pauses grow, and after the last try the client stops", async () => {
  const scene = new Scene({ tries: 3 });
  await scene.dialled(1);
  await scene.pass(2_400);
  assert.equal(scene.links[0]?.isClosed, false);
  await scene.pass(200);
  assert.equal(scene.links[0]?.isClosed, true);

  (await scene.dialled(2)).events.onClose("refused");
  await scene.pass(50);
  (await scene.dialled(3)).events.onClose("refused");
  await scene.pass(50);

  assert.deepEqual(scene.types(), ["try-failed", "try-failed", "closed"]);
  const pauses = scene.events.flatMap((event) => (event.type === "try-failed" ? [event.pauseMs] : []));
  assert.deepEqual(pauses, [150, 300]);
  assert.equal(scene.failedCount, 3);
});

test("a Bye follows all messages that were sent before, and its answer stops the client", async () => {
  const scene = new Scene();
  const link = await scene.connected();
  scene.client.send(SaySchema, { number: 1n });

  scene.client.bye();
  assert.equal(scene.client.send(SaySchema, { number: 2n }), "leaving");
  assert.deepEqual(link.sent.slice(-2).map(({ id }) => id), [idOf(SaySchema), idOf(ByeSchema)]);
  link.say(ClosedSchema, { reason: Reason.BYE });

  assert.equal(scene.client.state, "stopped");
  assert.deepEqual(scene.types(), ["connected", "closed"]);
});

test("a page whose session was taken over stops and clears the token", async () => {
  const scene = new Scene();
  const link = await scene.connected();

  link.say(ClosedSchema, { reason: Reason.REPLACED });

  assert.equal(scene.token, undefined);
  assert.equal(link.isClosed, true);
  assert.equal(scene.events.at(-1)?.type, "closed");
});

test("a client does not clear the token of a later client", async () => {
  const scene = new Scene();
  const link = await scene.connected();

  scene.save(new Uint8Array([9]));
  link.say(ClosedSchema, { reason: Reason.KICKED });

  assert.deepEqual(scene.token, new Uint8Array([9]));
});

/** Opens a session in a page whose timers do not fire. */
async function hidden() {
  const scene = new Scene();
  scene.client.update();
  await settled();
  const link = scene.links[0];
  assert.ok(link !== undefined);
  link.accept();
  return { scene, link };
}

test("the next link is dialled in the event that closes a link, without a timer", async () => {
  const { scene, link } = await hidden();
  scene.nowMs = 4_000;

  link.events.onClose("reset");
  await settled();

  assert.equal(scene.links.length, 2);
  const hello = scene.links[1]?.accept({ resumed: true, token: new Uint8Array([2]) });
  assert.deepEqual(hello?.resume?.token, new Uint8Array([1]));
  assert.deepEqual(scene.types(), ["connected", "link-lost", "resumed"]);
});

test("after a link that closes right after Welcome, the next one is dialled after a pause", async () => {
  const { scene, link } = await hidden();

  link.events.onClose("reset");
  await settled();
  assert.equal(scene.links.length, 1);

  await scene.pass(300);
  assert.equal(scene.links.length, 2);
});

test("an Ack that is due is sent when a message arrives, without a timer", async () => {
  const { scene, link } = await hidden();
  link.say(EchoSchema, { number: 1n });
  assert.equal(link.acked(), 0n);

  scene.nowMs = 1_000;
  link.say(BeaconSchema, { id: 9n });

  assert.equal(link.acked(), 1n);
  assert.deepEqual(link.got(PingSchema).map(({ id }) => id), [9n]);
});

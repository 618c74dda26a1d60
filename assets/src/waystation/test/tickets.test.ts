// Tests tickets: the Hello of a new session carries one, and that of a resume does not.

import assert from "node:assert/strict";
import { test } from "node:test";
import { DeniedSchema, HelloSchema } from "../../gen/waystation/v1/link_pb";
import { Reason } from "../wire";
import { Scene } from "./scripted";

test("the Hello of a new session carries the ticket, and that of a resume does not", async () => {
  const scene = new Scene();
  scene.tickets = ["one", "two"];
  const hello = (await scene.dialled(1)).accept();
  assert.equal(hello?.ticket, "one");

  scene.client.cut();
  const resume = (await scene.dialled(2)).accept({ resumed: true });

  assert.ok(resume?.resume !== undefined);
  assert.equal(resume.ticket, "");
});

test("a ticket that is refused is replaced by another one, once", async () => {
  const scene = new Scene();
  scene.tickets = ["stale", "fresh", "not used"];
  const first = await scene.dialled(1);
  first.events.onOpen();
  first.say(DeniedSchema, { reason: Reason.UNAUTHENTICATED });
  assert.equal(scene.failedCount, 1);

  const second = await scene.dialled(2);
  second.events.onOpen();
  assert.equal(second.got(HelloSchema)[0]?.ticket, "fresh");
  second.say(DeniedSchema, { reason: Reason.UNAUTHENTICATED, detail: "no" });
  await scene.pass(10_000);

  assert.equal(scene.links.length, 2);
  assert.deepEqual(scene.events.at(-1), { type: "closed", reason: Reason.UNAUTHENTICATED, detail: "no" });
});

test("a session that is over is followed by a new one on the same link, with a ticket of its own", async () => {
  const scene = new Scene({}, new Uint8Array([5]));
  scene.tickets = ["one", "two"];
  const link = await scene.dialled(1);
  link.events.onOpen();
  assert.equal(link.got(HelloSchema)[0]?.ticket, "");

  link.say(DeniedSchema, { reason: Reason.TOKEN });

  assert.equal(link.got(HelloSchema)[1]?.ticket, "one");
  assert.equal(link.got(HelloSchema)[1]?.resume, undefined);
});

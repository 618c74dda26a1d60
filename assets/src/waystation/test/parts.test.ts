// Tests the parts that need no server: frames on a stream, the choice of a transport, and the outbox.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Deframer, enframe } from "../deframer";
import { DiscoveredTransports, candidates } from "../discovery";
import { Outbox } from "../outbox";
import { WebSocketTransport } from "../websocket";
import { WebTransportTransport } from "../webtransport";

const OFFER = {
  protocol: 1,
  name: "arena",
  offers: [
    { transport: "webtransport", url: "https://127.0.0.1:7778/wt", cert_sha256: "00ff" },
    { transport: "websocket", url: "ws://127.0.0.1:7780/ws" },
  ],
};

test("frames are read from a stream as they were written, in reads of any size", () => {
  const frames = [0, 1, 127, 128, 300, 65_536].map((length) => new Uint8Array(length).fill(length & 0xff));
  const stream = frames.flatMap((frame) => Array.from(enframe(frame)));
  assert.deepEqual(Array.from(enframe(new Uint8Array(300)).subarray(0, 2)), [0xac, 0x02]);

  for (const size of [1, 2, 3, 1_000, stream.length]) {
    const deframer = new Deframer();
    const found: Uint8Array[] = [];
    for (let start = 0; start < stream.length; start += size) {
      deframer.push(new Uint8Array(stream.slice(start, start + size)));
      for (let frame = deframer.next(); frame !== undefined; frame = deframer.next()) {
        found.push(frame.slice());
      }
    }
    assert.deepEqual(found, frames);
  }
});

test("a frame that is too long is refused by its length, before it arrives", () => {
  const long = new Deframer();
  long.push(new Uint8Array([0x81, 0x80, 0x04]));
  const endless = new Deframer();
  endless.push(new Uint8Array([0xff, 0xff, 0xff, 0x01]));

  assert.throws(() => long.next(), /65537 bytes/);
  assert.throws(() => endless.next(), /more than 3 bytes/);
});

test("text over WebSocket, and a frame over WebTransport that is too long, are breaches", async (t) => {
  const told: string[] = [];
  const events = { onOpen: () => {}, onFrame: () => {}, onClose: () => told.push("closed"), onBreach: (what: string) => told.push(what) };
  const sockets: FakeSocket[] = [];
  class FakeSocket {
    onmessage?: (event: { data: unknown }) => void;
    constructor() {
      sockets.push(this);
    }
    close() {}
  }
  class FakeTransport {
    ready = Promise.resolve();
    closed = new Promise(() => {});
    datagrams = { readable: new ReadableStream(), writable: new WritableStream(), maxDatagramSize: 1_200 };
    createBidirectionalStream() {
      const readable = new ReadableStream({ start: (stream) => stream.enqueue(new Uint8Array([0xff, 0xff, 0xff, 1])) });
      return Promise.resolve({ readable, writable: new WritableStream() });
    }
    close() {}
  }
  const socket = globalThis.WebSocket;
  Object.assign(globalThis, { WebSocket: FakeSocket, WebTransport: FakeTransport });
  t.after(() => {
    Object.assign(globalThis, { WebSocket: socket });
    Reflect.deleteProperty(globalThis, "WebTransport");
  });

  new WebSocketTransport("ws://server/ws").open(events);
  sockets[0]?.onmessage?.({ data: "text" });
  new WebTransportTransport("https://server/wt", undefined).open(events);
  for (let looks = 0; told.length < 2 && looks < 100; looks += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }

  assert.equal(told.length, 2);
  assert.match(told[0] ?? "", /text/);
  assert.match(told[1] ?? "", /more than 3 bytes/);
});

test("the end of a WebTransport stream ends the link without a timer", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  class FakeTransport {
    ready = Promise.resolve();
    closed = new Promise(() => {});
    datagrams = { readable: new ReadableStream(), writable: new WritableStream(), maxDatagramSize: 1_200 };
    createBidirectionalStream() {
      const readable = new ReadableStream({ start: (stream) => stream.close() });
      return Promise.resolve({ readable, writable: new WritableStream() });
    }
    close() {}
  }
  Object.assign(globalThis, { WebTransport: FakeTransport });
  t.after(() => Reflect.deleteProperty(globalThis, "WebTransport"));
  const told: string[] = [];
  const events = { onOpen: () => told.push("open"), onFrame: () => {}, onClose: (why: string) => told.push(why), onBreach: () => {} };

  new WebTransportTransport("https://server/wt", undefined).open(events);
  for (let looks = 0; told.length < 2 && looks < 100; looks += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }

  assert.deepEqual(told, ["open", "the server ended the stream"]);
});

test("WebTransport comes first if server and browser support it", () => {
  const names = (has: boolean) => candidates(OFFER, has).map(({ name }) => name);
  assert.deepEqual(names(true), ["webtransport", "websocket"]);
  assert.deepEqual(names(false), ["websocket"]);
  const offers = [{ transport: "radio", url: "radio://server" }, ...OFFER.offers.slice(1)];
  assert.deepEqual(candidates({ ...OFFER, offers }, true).map(({ name }) => name), ["websocket"]);
});

test("discovery is asked again when none of its offers opens, unless a session waits", async (t) => {
  let asked = 0;
  t.mock.method(globalThis, "fetch", () => {
    asked += 1;
    return Promise.resolve(new Response(JSON.stringify(OFFER)));
  });
  Object.assign(globalThis, { WebTransport: class {} });
  t.after(() => Reflect.deleteProperty(globalThis, "WebTransport"));
  const transports = new DiscoveredTransports("http://server/v1/connect");
  const names = async (isHasty: boolean) => (await transports.offered(isHasty)).map(({ name }) => name);

  assert.deepEqual(await names(false), ["webtransport", "websocket"]);
  await names(false);
  assert.equal(asked, 1);
  transports.failed();
  await names(true);
  assert.equal(asked, 1);
  await Promise.all([names(false), names(false)]);
  assert.equal(asked, 2);

  transports.preference = "websocket";
  assert.deepEqual(await names(false), ["websocket"]);
});

test("a ticket is returned once, and the next new session asks discovery for another one", async (t) => {
  let asked = 0;
  t.mock.method(globalThis, "fetch", () => {
    asked += 1;
    return Promise.resolve(new Response(JSON.stringify({ ...OFFER, ticket: `ticket ${asked}` })));
  });
  const transports = new DiscoveredTransports("http://server/v1/connect");

  await transports.offered(false);
  assert.equal(transports.takeTicket(), "ticket 1");
  assert.equal(transports.takeTicket(), undefined);
  await transports.offered(true);
  assert.equal(asked, 1, "a resume needs no ticket");
  await transports.offered(false);
  assert.equal(transports.takeTicket(), "ticket 2");
});

test("the errors of discovery name their cause", async (t) => {
  const answers = [
    new Response("no bearer", { status: 401 }),
    new Response(JSON.stringify({ ...OFFER, protocol: 2 })),
    new Response(JSON.stringify({ protocol: 1, name: "arena" })),
    new Response(JSON.stringify({ protocol: 1, name: "arena", offers: [] })),
  ];
  const unreachable = () => Promise.reject(new TypeError("Failed to fetch"));
  t.mock.method(globalThis, "fetch", () => {
    const answer = answers.shift();
    return answer === undefined ? unreachable() : Promise.resolve(answer);
  });
  const transports = new DiscoveredTransports("http://server/v1/connect");

  await assert.rejects(transports.offered(false), /401: no bearer/);
  await assert.rejects(transports.offered(false), /protocol 2/);
  await assert.rejects(transports.offered(false), /no list of offers/);
  await assert.rejects(transports.offered(false), /no transport in common/);
  await assert.rejects(transports.offered(false), /discovery does not answer: Failed to fetch/);
});

test("the outbox keeps the higher one of two counts", () => {
  const outbox = new Outbox();
  for (const byte of [1, 2, 3, 4, 5]) {
    outbox.push(new Uint8Array([byte]));
  }
  for (let given = 0; given < 4; given += 1) {
    outbox.advance();
  }

  assert.equal(outbox.acknowledge(5n), false);
  assert.equal(outbox.acknowledge(3n), true);
  outbox.rebase(1n);
  assert.deepEqual([outbox.trimmed, outbox.length, outbox.next()?.[0]], [3n, 2, 4]);
  assert.equal(outbox.sent, 4n);

  // The fifth frame was never sent, so it becomes frame 91.
  outbox.rebase(90n);
  assert.deepEqual([outbox.trimmed, outbox.length, outbox.total, outbox.next()?.[0]], [90n, 1, 91n, 5]);
});

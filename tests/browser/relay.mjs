// Relays between the browser and the server, which a test can block.

import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";

const HOST = "127.0.0.1";

/**
 * Starts a relay of UDP datagrams. The test sets `target` to the server's port. While `isBlocked` is true, the relay
 * drops all datagrams in both directions.
 */
export async function startUdpRelay() {
  const front = createSocket("udp4");
  const clients = new Map();
  const relay = { target: 0, isBlocked: false, vanished: 0 };
  const passes = () => {
    relay.vanished += relay.isBlocked ? 1 : 0;
    return !relay.isBlocked;
  };
  front.on("message", (datagram, { port }) => {
    if (!passes()) {
      return;
    }
    let upstream = clients.get(port);
    if (upstream === undefined) {
      upstream = createSocket("udp4");
      upstream.on("message", (answer) => passes() && front.send(answer, port, HOST));
      clients.set(port, upstream);
    }
    upstream.send(datagram, relay.target, HOST);
  });
  await new Promise((resolve) => front.bind(0, HOST, resolve));
  const stop = () => [front, ...clients.values()].forEach((socket) => socket.close());
  return Object.assign(relay, { port: front.address().port, stop });
}

/**
 * Starts a relay of TCP connections. The test sets `target` to the server's port. While `isBroken` is true, the relay
 * resets each new connection.
 */
export async function startTcpRelay() {
  const sockets = new Set();
  const relay = { target: 0, isBroken: false };
  const listener = createServer((front) => {
    if (relay.isBroken) {
      front.resetAndDestroy();
      return;
    }
    const back = connect(relay.target, HOST);
    front.pipe(back).pipe(front);
    for (const socket of [front, back]) {
      sockets.add(socket);
      socket.on("error", () => [front, back].forEach((each) => each.destroy()));
      socket.on("close", () => sockets.delete(socket));
    }
  });
  await new Promise((resolve) => listener.listen(0, HOST, resolve));
  const reset = () => sockets.forEach((socket) => socket.resetAndDestroy());
  const stop = () => {
    reset();
    return new Promise((resolve) => listener.close(resolve));
  };
  return Object.assign(relay, { url: `http://${HOST}:${listener.address().port}`, reset, stop });
}

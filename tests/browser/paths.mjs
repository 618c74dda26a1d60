// Tests the page behind a relay that serves it below a path, as `--public-url` allows.

import assert from "node:assert/strict";
import { request, createServer } from "node:http";
import { connect } from "node:net";
import { test } from "node:test";
import { answered, open } from "./stage.mjs";
import { startServer } from "./server.mjs";

const PATH = "/eu/arena";

/** Starts a relay that removes the path. `target` is the HTTP port of the server. */
async function startRelay() {
  const relay = { target: 0, asked: [] };
  const inner = (incoming) => {
    relay.asked.push(incoming.url);
    return incoming.url.startsWith(`${PATH}/`) ? incoming.url.slice(PATH.length) : undefined;
  };
  const http = createServer((incoming, outgoing) => {
    const path = inner(incoming);
    if (path === undefined) {
      outgoing.writeHead(404).end();
      return;
    }
    const passed = { host: "127.0.0.1", port: relay.target, path, method: incoming.method, headers: incoming.headers };
    incoming.pipe(
      request(passed, (answer) => {
        outgoing.writeHead(answer.statusCode, answer.headers);
        answer.pipe(outgoing);
      }),
    );
  });
  http.on("upgrade", (incoming, socket, head) => {
    const path = inner(incoming);
    const upstream = connect(relay.target, "127.0.0.1", () => {
      const headers = Object.entries(incoming.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      upstream.write(`GET ${path} HTTP/1.1\r\n${headers.join("")}\r\n`);
      upstream.write(head);
      socket.pipe(upstream).pipe(socket);
    });
    for (const end of [socket, upstream]) {
      end.on("error", () => [socket, upstream].forEach((each) => each.destroy()));
    }
  });
  // The HTTP server does not close sockets that have become WebSockets.
  const sockets = new Set();
  http.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  const stop = () => {
    sockets.forEach((socket) => socket.destroy());
    return new Promise((resolve) => http.close(resolve));
  };
  return Object.assign(relay, { url: `http://127.0.0.1:${http.address().port}${PATH}`, stop });
}

test("the page works below a path: its files, discovery and WebSocket", async () => {
  const relay = await startRelay();
  const server = await startServer(["--public-url", relay.url]);
  relay.target = server.ports.http;

  const ada = await open("ada", "ws", { server, url: relay.url });

  await answered(ada);
  const paths = new Set(relay.asked.map((url) => url.split("?")[0]));
  const wanted = ["/play", "/play/play.css", "/play/play.js", "/v1/connect", "/ws"];
  assert.deepEqual([...paths].sort(), wanted.map((path) => PATH + path));
  assert.deepEqual(ada.errors, []);
  await ada.close();
  await server.stop();
  await relay.stop();
});

// The page of the game: the connection, the pointer, and the text about the state of the connection.

import { CheerSchema, CheeredSchema, SceneSchema, SteerSchema } from "./gen/game_pb";
import { RefusedSchema } from "./gen/waystation/v1/session_pb";
import { View } from "./draw";
import {
  Client,
  type ClientEvent,
  DiscoveredTransports,
  type Frame,
  SessionStorageStore,
  decode,
  reasonName,
} from "./waystation";

/** The name of the zone that the player joins, as in src/lib.rs. */
const ZONE = "meadow";
/** The time between two Steers. */
const STEER_MS = 50;
/** A press that is shorter and moves less than this is a tap. */
const TAP_MS = 300;
const TAP_PX = 12;
/** The time for which the page shows that the player is back. */
const BACK_MS = 2_500;
/** The minimum time before the page tries again to join. */
const REJOIN_MS = 1_000;

const element = (id: string) => document.getElementById(id) as HTMLElement;
const canvas = element("meadow") as HTMLCanvasElement;
const view = new View(canvas);

/** The cheers that were sent and have no answer yet. The client keeps each cheer until the server has received it. */
const waiting = new Set<bigint>();
let cheers = 0n;
/** True from the loss of a link until the next Welcome. */
let isLost = false;
let back = { text: "", untilMs: 0 };
let problem = "";

// The connection. The client opens links, and resumes the session when a link is lost. A reloaded page resumes too.
const transports = new DiscoveredTransports("v1/connect");
let client = connect();

function connect(): Client {
  const store = new SessionStorageStore("game");
  const client = new Client({ transports, store, config: { tries: Infinity } });
  client.onEvent = hear;
  client.start();
  return client;
}

function hear(event: ClientEvent): void {
  switch (event.type) {
    case "connected":
      // A new session: the player is new, or was away until the old session expired.
      waiting.clear();
      welcome("Back, with a new light");
      client.join(ZONE);
      break;
    case "resumed":
      // The same session: the player has the same light, and nothing was lost.
      welcome("Back, with the same light");
      if (client.zone === "") {
        client.join(ZONE);
      }
      break;
    case "link-lost":
      isLost = true;
      break;
    case "message":
      take(event.frame);
      break;
    case "closed":
      problem = `The game has ended: ${event.detail || reasonName(event.reason)}`;
      element("again").hidden = false;
      break;
  }
}

function welcome(text: string): void {
  back = { text, untilMs: isLost ? performance.now() + BACK_MS : 0 };
  isLost = false;
  problem = "";
}

/** Takes a message of the server. A new message of the game gets a branch here. */
function take(frame: Frame): void {
  const scene = decode(SceneSchema, frame);
  if (scene !== undefined) {
    view.show(scene, client.session);
    return;
  }
  const cheered = decode(CheeredSchema, frame);
  if (cheered !== undefined) {
    view.ring(cheered);
    if (cheered.session === client.session) {
      waiting.delete(cheered.number);
    }
    return;
  }
  const refused = decode(RefusedSchema, frame);
  if (refused !== undefined) {
    problem = `Cannot join: ${refused.detail || reasonName(refused.reason)}`;
    setTimeout(() => client.join(ZONE), Math.max(refused.retryAfterMs, REJOIN_MS));
  }
}

// The pointer: a mouse or a finger. The light flies to the place at which the pointer is.
let goal: { x: number; y: number } | undefined;
let pressed = { atMs: 0, x: 0, y: 0 };

function point(event: PointerEvent): void {
  if (event.isPrimary && (event.pointerType === "mouse" || event.buttons > 0)) {
    goal = view.place(event.clientX, event.clientY);
  }
}
canvas.addEventListener("pointermove", point);
canvas.addEventListener("pointerdown", (event) => {
  pressed = { atMs: event.timeStamp, x: event.clientX, y: event.clientY };
  point(event);
});
canvas.addEventListener("pointerup", (event) => {
  const moved = Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y);
  if (event.timeStamp - pressed.atMs < TAP_MS && moved < TAP_PX) {
    cheer();
  }
});
addEventListener("keydown", (event) => {
  if (event.code === "Space" && !event.repeat) {
    event.preventDefault();
    cheer();
  }
});

setInterval(() => {
  if (goal !== undefined && client.state === "connected") {
    client.send(SteerSchema, goal);
  }
}, STEER_MS);

/** Sends a cheer. While the connection is lost, the cheer waits, and arrives after the resume. */
function cheer(): void {
  const number = cheers + 1n;
  if (client.send(CheerSchema, { number }) === undefined) {
    cheers = number;
    waiting.add(number);
    view.pulse();
  }
  element("hint").classList.add("known");
}

element("cut").addEventListener("click", (event) => {
  client.cut(3_000);
  // The space key cheers, also after a click on the button.
  (event.currentTarget as HTMLElement).blur();
});
element("again").addEventListener("click", () => {
  element("again").hidden = true;
  problem = "";
  client = connect();
});

/** Returns the state of the connection, and the text about it. */
function status(): [string, string] {
  if (problem !== "") {
    return ["problem", problem];
  }
  if (client.state === "connected") {
    return performance.now() < back.untilMs ? ["back", back.text] : ["connected", "Connected"];
  }
  if (!isLost) {
    return ["connecting", "Connecting…"];
  }
  const saved = waiting.size === 0 ? "" : waiting.size === 1 ? " 1 cheer will be sent." : ` ${waiting.size} cheers will be sent.`;
  return ["lost", `Connection lost. Reconnecting…${saved}`];
}

requestAnimationFrame(function frame(nowMs) {
  const [state, text] = status();
  const pill = element("status");
  if (pill.textContent !== text) {
    pill.textContent = text;
  }
  document.body.dataset["state"] = state;
  element("who").textContent = view.counts();
  view.draw(nowMs);
  requestAnimationFrame(frame);
});

// For tests and for the console of the browser: the state of the page as plain values.
Object.assign(globalThis, {
  game: {
    state: () => ({
      status: status()[0],
      session: client.session?.toString() ?? "",
      resumeCount: client.resumeCount,
      cheers: Number(cheers),
      waiting: waiting.size,
      me: view.me(),
    }),
  },
});

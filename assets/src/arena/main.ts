// The page: its elements, its timers, and the debugging handle `window.waystation`.

import { type Preference, sessionText } from "../waystation";
import { Controls, STILL } from "./controls";
import { View } from "./draw";
import { Game, TRANSPORTS } from "./game";
import { Journal } from "./journal";
import { chooseName, cut, keepName } from "./names";

const STATES = {
  connecting: "connecting",
  connected: "connected",
  away: "link lost, resuming",
  leaving: "leaving",
  stopped: "stopped",
} as const;
/** The state that the page shows after several tries have failed. */
const AWAY = "no server, trying again";
/** The time between two inputs: one tick of the arena. */
const INPUT_MS = 50;
/** The time between two numbered calls. */
const SAY_MS = 500;
/** The time between two updates of the figures. */
const SHOW_MS = 250;
/** How long the longer cut lasts. Other players can see it, and the session does not expire. */
const CUT_LONG_MS = 3_000;
/** The number of ranks that are shown. */
const RANKS = 8;

function element<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) {
    throw new Error(`the page has no element #${id}`);
  }
  return found;
}

const query = new URLSearchParams(location.search);
const canvas = element("plane", HTMLCanvasElement);
const view = new View(canvas);
const controls = new Controls(canvas);
const journal = new Journal(element("journal", HTMLOListElement));
const transportSelect = element("transport", HTMLSelectElement);
const nameInput = element("name", HTMLInputElement);
const status = element("state", HTMLElement);
const overlay = element("overlay", HTMLElement);

const PREFERENCES: Record<string, Preference> = { ws: "websocket", wt: "webtransport" };
const asked = query.get("transport") ?? "auto";
transportSelect.value = asked in PREFERENCES ? asked : "auto";
if (typeof WebTransport !== "function") {
  const option = transportSelect.querySelector<HTMLOptionElement>("option[value=wt]");
  if (option !== null) {
    option.disabled = true;
    option.textContent += " (not in this browser)";
  }
}

const game = new Game(journal, PREFERENCES[asked] ?? "auto", chooseName(query.get("name")));
nameInput.value = game.name;

transportSelect.addEventListener("change", () => {
  game.prefer(PREFERENCES[transportSelect.value] ?? "auto");
});
element("cut", HTMLButtonElement).addEventListener("click", () => game.cut(0));
element("cut-long", HTMLButtonElement).addEventListener("click", () => game.cut(CUT_LONG_MS));
element("again", HTMLButtonElement).addEventListener("click", () => game.playAnew(game.name));
element("rename", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  const name = cut(nameInput.value);
  if (name !== "" && name !== game.name) {
    keepName(name);
    game.playAnew(name);
  }
  nameInput.blur();
});

/** Returns true if the page is visible. A hidden page sends no inputs. */
const isWatched = () => document.visibilityState === "visible";
document.addEventListener("visibilitychange", () => {
  controls.release();
  game.steer(STILL);
});

setInterval(() => {
  if (isWatched()) {
    game.steer(controls.wish(game.me(performance.now()), view.place));
  }
}, INPUT_MS);
setInterval(() => game.say(), SAY_MS);
setInterval(show, SHOW_MS);
requestAnimationFrame(function frame(nowMs) {
  view.draw(game.world, game.me(nowMs), nowMs, game.client.state !== "connected");
  requestAnimationFrame(frame);
});

function set(id: string, text: string): void {
  const target = element(id, HTMLElement);
  if (target.textContent !== text) {
    target.textContent = text;
  }
}

/** Updates the figures beside the plane. */
function show(): void {
  const { client, says } = game;
  status.dataset["state"] = client.state;
  set("state", game.isServerAway && client.state !== "stopped" ? AWAY : STATES[client.state]);
  set("transport-used", client.transport === undefined ? "–" : TRANSPORTS[client.transport]);
  set("latency", client.latencyMs === undefined ? "–" : `${client.latencyMs} ms`);
  set("session", client.session === undefined ? "–" : sessionText(client.session));
  set("resumes", String(client.resumeCount));
  set("says", `${says.answeredCount} answered, ${says.lost} lost, ${says.doubled} doubled`);
  overlay.hidden = game.ended === undefined;
  set("ended", game.ended ?? "");
  showRanking();
}

function showRanking(): void {
  const ranking = game.world.ranking();
  const best = ranking.slice(0, RANKS);
  const own = ranking.findIndex(({ id }) => id === game.world.me);
  if (own >= RANKS) {
    best.push(ranking[own] as (typeof best)[number]);
  }
  const rows = best.map(({ id, name, score }) => {
    const row = document.createElement("li");
    const rank = ranking.findIndex((other) => other.id === id) + 1;
    row.className = id === game.world.me ? "me" : "";
    for (const text of [`${rank}`, name, `${score}`]) {
      const cell = document.createElement("span");
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  });
  element("ranking", HTMLOListElement).replaceChildren(...rows);
}

/** The debugging handle of the page: its state as plain values. Tests read it. */
Object.assign(globalThis, {
  waystation: {
    game,
    state: () => ({
      state: game.client.state,
      session: game.client.session === undefined ? "" : sessionText(game.client.session),
      transport: game.client.transport ?? "",
      latencyMs: game.client.latencyMs ?? null,
      resumeCount: game.client.resumeCount,
      isInArena: game.isInArena,
      says: {
        sent: Number(game.says.sent),
        answered: game.says.answeredCount,
        lost: game.says.lost,
        doubled: game.says.doubled,
      },
      me: { id: game.world.me, ...game.me(performance.now()) },
      avatars: game.world.avatars(performance.now()),
      journal: [...journal.texts],
    }),
  },
});

// The player of the arena: messages of the server become the world, and controls become inputs.

import {
  EchoSchema,
  InputSchema,
  PelletsSchema,
  SaySchema,
  ScoresSchema,
  SnapshotSchema,
  YouSchema,
} from "../gen/arena/v1/arena_pb";
import {
  JoinedSchema,
  NoticeSchema,
  PartedSchema,
  RefusedSchema,
} from "../gen/waystation/v1/session_pb";
import {
  Client,
  type ClientEvent,
  DiscoveredTransports,
  type Frame,
  type Preference,
  SessionStorageStore,
  type TransportName,
  decode,
  reasonName,
  sessionText,
  tab,
} from "../waystation";
import type { Journal } from "./journal";
import { Prediction } from "./prediction";
import { Says } from "./says";
import { type Point, World } from "./world";

/** The names of transports on the page. */
export const TRANSPORTS: Record<TransportName, string> = { webtransport: "WebTransport", websocket: "WebSocket" };

/** A player. When a session ends, the player can begin another one. */
export class Game {
  readonly world = new World();
  readonly prediction = new Prediction();
  readonly says = new Says();
  readonly transports: DiscoveredTransports;
  client: Client;
  /** Why the client has stopped. Undefined while it runs. */
  ended: string | undefined;
  isInArena = false;

  /** The number of failed tries in a row. */
  #failedTries = 0;
  /** The time at which the link was lost, and the last Say before the resume. For the journal. */
  #lostAtMs: number | undefined;
  #owed: bigint | undefined;
  #rejoin: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly journal: Journal,
    preference: Preference,
    public name: string,
  ) {
    this.transports = new DiscoveredTransports(DISCOVERY, preference);
    this.client = this.#begin();
  }

  /** Begins a new session, with this name. */
  playAnew(name: string): void {
    this.name = name;
    this.client.onEvent = () => {};
    this.client.bye();
    tab.remove(TOKEN_KEY);
    this.client = this.#begin();
  }

  #begin(): Client {
    const store = new SessionStorageStore(TOKEN_KEY);
    // The page tries without end while the server is away. Only a final reason of the server stops it.
    const config = { game: "", name: this.name, tries: Infinity };
    const client = new Client({ transports: this.transports, store, config });
    this.ended = undefined;
    this.isInArena = false;
    this.#failedTries = 0;
    this.world.clear();
    this.prediction.clear();
    // A reloaded page resumes its session, but has lost the numbers of its calls.
    this.says.reset();
    this.says.resync();
    client.onEvent = (event) => this.#take(event);
    client.start();
    return client;
  }

  /** True if the server cannot be reached. The client tries again until it can. */
  get isServerAway(): boolean {
    return this.#failedTries >= AWAY_TRIES;
  }

  #take(event: ClientEvent): void {
    switch (event.type) {
      case "message":
        this.#takeMessage(event.frame);
        break;
      case "connected":
        this.#failedTries = 0;
        this.#lostAtMs = undefined;
        this.world.clear();
        this.prediction.clear();
        this.says.reset();
        this.journal.write("good", `new session ${sessionText(event.session)} over ${this.#transport()}`);
        this.client.join("arena");
        break;
      case "resumed":
        this.#resumed(event.session, event.resync);
        break;
      case "link-lost":
        this.#lostAtMs = performance.now();
        this.prediction.stand(this.#lostAtMs);
        this.journal.write("bad", `link lost: ${event.detail}`);
        break;
      case "try-failed":
        this.#tryFailed(event.detail, event.pauseMs);
        break;
      case "session-lost":
        this.isInArena = false;
        this.journal.write("bad", `the session is over (${reasonName(event.reason)}); ${event.unacked} messages not acknowledged`);
        break;
      case "closed":
        this.isInArena = false;
        this.ended = `${reasonName(event.reason)} ${event.detail}`.trim();
        this.journal.write("bad", `stopped: ${this.ended}`);
        break;
    }
  }

  /** Writes the first failed tries to the journal. Further ones are left out, so that older entries stay visible. */
  #tryFailed(detail: string, pauseMs: number): void {
    this.#failedTries += 1;
    if (this.#failedTries < AWAY_TRIES) {
      const then = pauseMs > 0 ? `again in ${Math.round(pauseMs)} ms` : "trying again";
      this.journal.write("bad", `${detail}; ${then}`);
    } else if (this.#failedTries === AWAY_TRIES) {
      this.journal.write("bad", `the server cannot be reached (${detail}); the page tries again until it can`);
    }
  }

  #resumed(session: bigint, resync: boolean): void {
    this.#failedTries = 0;
    const now = performance.now();
    const how = this.#lostAtMs === undefined ? "resumed after a reload" : `resumed in ${Math.round(now - this.#lostAtMs)} ms`;
    this.#lostAtMs = undefined;
    this.journal.write("good", `${how} over ${this.#transport()}: same session ${sessionText(session)}`);
    if (resync) {
      this.says.resync();
      this.world.clear();
      this.prediction.clear();
    }
    this.#owed = this.says.sent;
    this.isInArena = this.client.zone !== "";
    if (!this.isInArena) {
      this.client.join("arena");
    }
  }

  #transport(): string {
    return this.client.transport === undefined ? "no link" : TRANSPORTS[this.client.transport];
  }

  #takeMessage(frame: Frame): void {
    try {
      this.#takeState(frame) || this.#takeNews(frame);
    } catch (error) {
      this.journal.write("bad", `message ${frame.id} does not parse: ${String(error)}`);
    }
  }

  /** Handles the messages of the arena, the most frequent first. Returns false for other messages. */
  #takeState(frame: Frame): boolean {
    const now = performance.now();
    const snapshot = decode(SnapshotSchema, frame);
    if (snapshot !== undefined) {
      const known = this.world.newest(this.world.me)?.atMs;
      this.world.takeSnapshot(snapshot, now);
      const newest = this.world.newest(this.world.me);
      if (newest !== undefined && newest.atMs !== known) {
        this.prediction.correct(newest, now, this.world.size);
      }
      return true;
    }
    const scores = decode(ScoresSchema, frame);
    const pellets = decode(PelletsSchema, frame);
    const echo = decode(EchoSchema, frame);
    const you = decode(YouSchema, frame);
    if (scores !== undefined) {
      this.world.takeScores(scores);
    } else if (pellets !== undefined) {
      this.world.takePellets(pellets);
    } else if (echo !== undefined) {
      this.says.echoed(echo.number, echo.taken);
      this.#tellOwed();
    } else if (you !== undefined) {
      this.world.takeYou(you);
    }
    return (scores ?? pellets ?? echo ?? you) !== undefined;
  }

  /** When all calls from before a resume are answered, writes the result to the journal. */
  #tellOwed(): void {
    if (this.#owed !== undefined && this.says.isAnswered(this.#owed)) {
      this.#owed = undefined;
      const { answeredCount, lost, doubled } = this.says;
      const mood = lost + doubled === 0 ? "good" : "bad";
      this.journal.write(mood, `calls so far: ${answeredCount} answered, ${lost} lost, ${doubled} doubled`);
    }
  }

  /** Handles session messages. */
  #takeNews(frame: Frame): void {
    const joined = decode(JoinedSchema, frame);
    const refused = decode(RefusedSchema, frame);
    const parted = decode(PartedSchema, frame);
    const notice = decode(NoticeSchema, frame);
    if (joined !== undefined) {
      this.isInArena = true;
    } else if (refused !== undefined) {
      this.journal.write("bad", `the arena refuses: ${reasonName(refused.reason)} ${refused.detail}`);
      clearTimeout(this.#rejoin);
      this.#rejoin = setTimeout(() => this.client.join("arena"), Math.max(refused.retryAfterMs, REJOIN_MS));
    } else if (parted !== undefined) {
      this.isInArena = false;
      this.journal.write("bad", `left the arena: ${reasonName(parted.reason)}`);
    } else if (notice !== undefined) {
      this.journal.write("plain", `the server says: ${notice.text}`);
    }
  }

  /** Sends a direction to move, if the player is in the arena and has a link. */
  steer(wish: Point): void {
    if (this.isInArena && this.client.state === "connected") {
      const tick = this.prediction.wish(wish, performance.now());
      this.client.send(InputSchema, { tick, x: wish.x, y: wish.y });
    }
  }

  /** Sends a numbered call. While there is no link, the call waits in the outbox. */
  say(): void {
    if (this.isInArena && this.client.send(SaySchema, { number: this.says.next }) === undefined) {
      this.says.said();
    }
  }

  /** Drops the link, as a tunnel would, and dials again after `holdMs`. */
  cut(holdMs: number): void {
    this.client.cut(holdMs);
  }

  /** Uses another transport from now on. The session is resumed over it. */
  prefer(preference: Preference): void {
    this.transports.preference = preference;
    this.client.move();
  }

  /** Returns the predicted position of the player's own avatar. */
  me(nowMs: number): Point | undefined {
    return this.prediction.shown(nowMs, this.world.size);
  }
}

/** The discovery URL of the server that this script came from. It may be below a path of a relay. */
const DISCOVERY = new URL("../v1/connect", import.meta.url).href;
/** The key of the token in the storage of the tab. */
const TOKEN_KEY = "waystation.token";
/** After this many failed tries the page shows that the server is away. Each transport was tried by then. */
const AWAY_TRIES = 3;
/** The shortest time between a refused Join and the next one, in milliseconds. */
const REJOIN_MS = 1_000;

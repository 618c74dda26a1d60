// The protocol without its transport: frames, time and calls in; frames and events out.
//
// It holds no link. Whoever does tells it how the link fares, hands it what arrived, and lets go of
// the link when `takeRelease` says so: whatever it still holds comes again on the next one, and
// would count twice.
//
// Data flow: `advance` lets time pass → `opened`, `receive` and `linkClosed` take in what happened →
// `check` finds what is over → `drain` hands out the events → `transmit` says what to send. A token
// reaches its store with the events, before the Ack that retires the one before it.

import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import {
  AckSchema,
  BeaconSchema,
  ByeSchema,
  type Closed,
  ClosedSchema,
  type Denied,
  DeniedSchema,
  type Welcome,
  WelcomeSchema,
} from "../gen/waystation/v1/link_pb";
import { Backoff } from "./backoff";
import { Bound, type Send } from "./bound";
import { type Config, DEFAULTS } from "./config";
import type { ClientEvent, ClientState, SendError } from "./event";
import { hello } from "./hello";
import { FINAL, type Phase } from "./phase";
import { type Counts, type Session, begun, countsOf, fromToken, gameFrame, resumed } from "./session";
import {
  FRAME_MAX_BEFORE_WELCOME,
  FRAME_MAX_SERVER,
  type Frame,
  type Lane,
  Reason,
  decode,
  encode,
  idOf,
  laneOf,
  parse,
  rangeOf,
  reasonName,
} from "./wire";

/** The state of a client, but for its link. */
export class Core {
  #phase: Phase = { is: "waiting", leftMs: 0 };
  #session: Session | undefined;
  #backoff: Backoff;
  #events: ClientEvent[] = [];
  #release = false;
  #leaving: { elapsedMs: number; said: boolean } | undefined;
  #request = 0;
  #config: Config;

  /** The last Welcome. */
  welcome: Welcome | undefined;
  /** The smoothed round-trip time of this link in milliseconds, as the server's beacons tell it. */
  latencyMs: number | undefined;
  /** How often a session was resumed. */
  resumeCount = 0;

  constructor(config: Partial<Config> = {}) {
    this.#config = { ...DEFAULTS, ...config };
    const { backoffMinMs, backoffMaxMs, tries, random } = this.#config;
    this.#backoff = new Backoff(backoffMinMs, backoffMaxMs, tries, random);
  }

  /** Resumes the session of this token, of which nothing else is left. */
  adopt(token: Uint8Array): void {
    if (!this.isStopped()) {
      this.#session = fromToken(token);
    }
  }

  /** Lets time pass. What it brought to an end is found by `check`. */
  advance(dtMs: number): void {
    const phase = this.#phase;
    if (phase.is === "waiting") {
      phase.leftMs = Math.max(0, phase.leftMs - dtMs);
    } else if (phase.is === "dialling" || phase.is === "greeting") {
      phase.elapsedMs += dtMs;
    } else if (phase.is === "bound") {
      phase.link.advance(dtMs);
    }
    if (this.#leaving !== undefined) {
      this.#leaving.elapsedMs += dtMs;
    }
  }

  /** Whether a link should be dialled now. */
  wantsLink(): boolean {
    return this.#phase.is === "waiting" && this.#phase.leftMs <= 0;
  }

  /** A link is being opened. */
  dialled(): void {
    this.#phase = { is: "dialling", elapsedMs: 0 };
  }

  /** The dialled link is open. */
  opened(): void {
    if (this.#phase.is === "dialling") {
      this.#phase = { is: "greeting", elapsedMs: 0, said: false };
    }
  }

  /** The network is said to be back: the next try is made now. */
  hurry(): void {
    if (this.#phase.is === "waiting") {
      this.#phase.leftMs = 0;
    }
  }

  /** A frame arrived. */
  receive(lane: Lane, bytes: Uint8Array): void {
    const frame = parse(bytes);
    if (this.#phase.is === "greeting") {
      if (frame !== undefined) {
        this.#takeGreeting(frame);
      }
    } else if (this.#phase.is === "bound") {
      this.#phase.link.silenceMs = 0;
      if (frame === undefined) {
        this.#broken("a frame without an id");
      } else if (bytes.length > FRAME_MAX_SERVER) {
        this.#broken(`message ${frame.id} takes ${bytes.length} bytes`);
      } else {
        this.#takeBound(this.#phase.link, lane, frame);
      }
    }
  }

  /** The link ended, or could not be opened. */
  linkClosed(detail: string): void {
    if (this.#phase.is === "dialling" || this.#phase.is === "greeting") {
      this.#fail(0, detail);
    } else if (this.#phase.is === "bound") {
      this.#loseLink(this.#phase.link.isSteady ? undefined : 0, detail);
    }
  }

  /** The link found that the server broke the protocol. Before Welcome it is a try that failed. */
  breached(detail: string): void {
    const isBound = this.#phase.is === "bound";
    return isBound ? this.#broken(detail) : this.linkClosed(detail);
  }

  /** Finds what time has brought to an end. */
  check(): void {
    const phase = this.#phase;
    if (phase.is === "dialling" && phase.elapsedMs >= this.#config.dialTimeoutMs) {
      this.#fail(0, "the link did not open in time");
    } else if (phase.is === "greeting" && phase.elapsedMs >= this.#config.linkTimeoutMs) {
      this.#fail(0, "the Hello was not answered");
    } else if (phase.is === "bound" && phase.link.silenceMs >= this.#config.linkTimeoutMs) {
      this.#loseLink(undefined, "nothing was heard for too long");
    }
    if (this.#leaving !== undefined && this.#leaving.elapsedMs >= CLOSE_TIMEOUT_MS && !this.isStopped()) {
      this.#giveUp("the Bye was not answered");
    }
  }

  /** Says what to send; what the link refuses is offered again. */
  transmit(send: Send): void {
    if (this.#phase.is === "greeting" && !this.#phase.said) {
      this.#sayHello(send);
    } else if (this.#phase.is === "bound") {
      this.#transmitBound(this.#phase.link, send);
    }
  }

  /** The events since the last call, in order. */
  drain(): ClientEvent[] {
    return this.#events.splice(0);
  }

  /** True once when the link at hand is to be closed, unread. */
  takeRelease(): boolean {
    const release = this.#release;
    this.#release = false;
    return release;
  }

  /**
   * Sends a message on its lane: a reliable one is kept until the server has counted it, an
   * unreliable one goes to the link or is refused.
   */
  send<T extends DescMessage>(schema: T, message: MessageInitShape<T>, link: Send): SendError | undefined {
    const session = this.#session;
    if (this.#leaving !== undefined) {
      return "leaving";
    }
    if (session === undefined) {
      return "no-session";
    }
    const frame = gameFrame(schema, message);
    if (typeof frame === "string") {
      return frame;
    }
    if (laneOf(idOf(schema)) === "reliable") {
      return session.outbox.push(frame) ? undefined : "full";
    }
    const isBound = this.#phase.is === "bound" && !this.#phase.link.isGreeting;
    return isBound && link(frame) ? undefined : "dropped";
  }

  /** The number of the next Join or Part; never 0. */
  nextRequest(): number {
    this.#request = this.#request >= 0xffff_ffff ? 1 : this.#request + 1;
    return this.#request;
  }

  /** Ends the session once all that was sent has left. Without a link nobody can be told. */
  leave(): void {
    if (this.#phase.is === "bound") {
      this.#leaving ??= { elapsedMs: 0, said: false };
    } else if (!this.isStopped()) {
      this.#giveUp("left while there was no link");
    }
  }

  /** Loses the link on purpose and dials again after `holdMs`. */
  cut(holdMs: number): void {
    if (this.#phase.is === "bound") {
      this.#loseLink(0, "cut on purpose");
    }
    if (!this.isStopped()) {
      this.#backoff.reset();
      this.#release = true;
      this.#phase = { is: "waiting", leftMs: holdMs };
    }
  }

  get state(): ClientState {
    if (this.#phase.is === "stopped") {
      return "stopped";
    }
    if (this.#phase.is === "bound") {
      return this.#leaving === undefined ? "connected" : "leaving";
    }
    return this.#session === undefined ? "connecting" : "away";
  }

  isStopped(): boolean {
    return this.#phase.is === "stopped";
  }

  get session(): bigint | undefined {
    return this.#session?.id;
  }

  get token(): Uint8Array | undefined {
    return this.#session?.token;
  }

  /** Reliable messages sent, of these acknowledged, and those received. */
  get counts(): Counts {
    return countsOf(this.#session);
  }

  #sayHello(send: Send): void {
    const frame = hello(this.#session, this.#config);
    if (frame.length > FRAME_MAX_BEFORE_WELCOME) {
      this.#giveUp(`the Hello takes ${frame.length} bytes, the server reads ${FRAME_MAX_BEFORE_WELCOME}`);
    } else if (this.#phase.is === "greeting") {
      this.#phase.said = send(frame);
    }
  }

  /** Before its Welcome a client hears nothing but the answers to its Hello. */
  #takeGreeting(frame: Frame): void {
    try {
      const welcome = decode(WelcomeSchema, frame);
      const denied = decode(DeniedSchema, frame);
      const closed = decode(ClosedSchema, frame);
      if (welcome !== undefined) {
        this.#welcomed(welcome);
      } else if (denied !== undefined) {
        this.#denied(denied);
      } else if (closed !== undefined) {
        this.#closed(closed);
      }
    } catch (error) {
      this.#fail(0, String(error));
    }
  }

  #welcomed(welcome: Welcome): void {
    const { session: id } = welcome;
    const old = this.#session;
    if (id === 0n || (welcome.resumed && old === undefined)) {
      this.#fail(0, `the server's Welcome names ${id === 0n ? "no session" : "a session that was not asked for"}`);
      return;
    }
    if (welcome.resumed && old !== undefined) {
      resumed(old, welcome);
      this.resumeCount += 1;
      this.#events.push({ type: "resumed", session: id, resync: welcome.resync });
    } else {
      this.#loseSession(undefined);
      this.#session = begun(welcome);
      this.#events.push({ type: "connected", session: id });
    }
    this.welcome = welcome;
    this.#backoff.reset();
    this.#phase = { is: "bound", link: new Bound() };
  }

  #denied(denied: Denied): void {
    const { reason } = denied;
    if (reason === Reason.TOKEN && this.#session !== undefined) {
      // The session is over: Hello anew, on the same link.
      this.#loseSession(reason);
      this.#phase = { is: "greeting", elapsedMs: 0, said: false };
    } else if (FINAL.has(reason)) {
      this.#loseSession(reason);
      this.#stop(reason, denied.detail);
    } else {
      this.#fail(denied.retryAfterMs, `the server refused: ${reasonName(reason)} ${denied.detail}`);
    }
  }

  /** The server ends the link; its reason says whether the session lives. */
  #closed(closed: Closed): void {
    const { reason } = closed;
    if (reason === Reason.BYE && this.#leaving !== undefined) {
      this.#session = undefined;
      this.#stop(reason, closed.detail);
    } else if (reason === Reason.PROTOCOL) {
      this.#broken(`the server says it was the client: ${closed.detail}`);
    } else if (FINAL.has(reason)) {
      this.#loseSession(reason);
      this.#stop(reason, closed.detail);
    } else if (this.#phase.is === "bound") {
      this.#loseLink(closed.retryAfterMs, `the server closed the link: ${reasonName(reason)}`);
    } else {
      this.#fail(closed.retryAfterMs, `the server closed the link: ${reasonName(reason)}`);
    }
  }

  #takeBound(link: Bound, lane: Lane, frame: Frame): void {
    const range = rangeOf(frame.id);
    if (range === "link") {
      try {
        this.#takeControl(link, frame);
      } catch (error) {
        this.#broken(String(error));
      }
      return;
    }
    if (range !== "game-unreliable") {
      if (lane === "unreliable") {
        this.#broken(`message ${frame.id} came on the unreliable lane`);
        return;
      }
      if (this.#session !== undefined) {
        this.#session.received += 1n;
        link.counted();
      }
    }
    this.#events.push({ type: "message", frame });
  }

  /** Link control that a server does not send, or that this version does not know, is ignored. */
  #takeControl(link: Bound, frame: Frame): void {
    const closed = decode(ClosedSchema, frame);
    if (closed !== undefined) {
      this.#closed(closed);
      return;
    }
    const ack = decode(AckSchema, frame);
    const beacon = decode(BeaconSchema, frame);
    if (beacon !== undefined) {
      this.latencyMs = beacon.latencyMs > 0 ? beacon.latencyMs : this.latencyMs;
      link.beacon(beacon.id);
    }
    const received = (ack ?? beacon)?.received;
    if (received !== undefined && this.#session?.outbox.acknowledge(received) === false) {
      this.#broken(`${received} frames were acknowledged, more than were sent`);
    }
  }

  /** What the link is owed, and at the very end the Bye. */
  #transmitBound(link: Bound, send: Send): void {
    const isDone = this.#session !== undefined && link.transmit(this.#session, this.#config.linkTimeoutMs, send);
    if (isDone && this.#leaving !== undefined && !this.#leaving.said) {
      this.#leaving.said = send(encode(ByeSchema, {}));
    }
  }

  /** A try failed: the next one follows, unless it was the last. */
  #fail(retryAfterMs: number, detail: string): void {
    if (this.#backoff.fail()) {
      this.#giveUp(detail);
      return;
    }
    const pauseMs = Math.max(this.#backoff.pause(), retryAfterMs);
    this.#events.push({ type: "try-failed", detail, pauseMs });
    this.#release = true;
    this.#phase = { is: "waiting", leftMs: pauseMs };
  }

  /** The bound link is gone: the session is resumed after a pause, or at once if none is given. */
  #loseLink(retryAfterMs: number | undefined, detail: string): void {
    this.#events.push({ type: "link-lost", detail });
    this.latencyMs = undefined;
    if (this.#leaving !== undefined) {
      this.#giveUp("the link was lost before the Bye was answered");
      return;
    }
    this.#release = true;
    const leftMs = retryAfterMs === undefined ? 0 : Math.max(this.#backoff.pause(), retryAfterMs);
    this.#phase = { is: "waiting", leftMs };
  }

  /** The session is over; what it left unacknowledged is reported. */
  #loseSession(reason: Reason | undefined): void {
    const session = this.#session;
    if (session !== undefined) {
      this.#session = undefined;
      this.#events.push({ type: "session-lost", unacked: session.outbox.length, reason });
    }
  }

  #stop(reason: Reason | undefined, detail: string): void {
    this.#release = true;
    this.#phase = { is: "stopped" };
    this.latencyMs = undefined;
    this.#events.push({ type: "closed", reason, detail });
  }

  #giveUp(detail: string): void {
    this.#loseSession(undefined);
    this.#stop(undefined, detail);
  }

  /** The server broke the protocol. To resume would repeat it, so the session is over. */
  #broken(detail: string): void {
    this.#loseSession(Reason.PROTOCOL);
    this.#stop(Reason.PROTOCOL, detail);
  }
}

/** How long a Bye waits for its answer. */
const CLOSE_TIMEOUT_MS = 5_000;

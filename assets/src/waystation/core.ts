// The protocol without its transport: frames, time and calls in; frames and events out.
//
// It holds no link. Its owner tells it how the link fares, hands it what arrived, and lets go of the
// link when `takeRelease` says so: what the link still holds comes again on the next one, and would
// count twice.
//
// What time means is decided here. `advance` is told how much has passed. Less than `linkTimeoutMs`
// counts as one second of silence at most, so that what arrived meanwhile is heard before the link is
// called silent. After more the page was asleep: the server has given the link up, and the client dials
// at once without reading the link.
//
// Data flow: `advance` lets time pass → `opened`, `receive` and `linkClosed` take in what happened →
// `check` finds what is over → `drain` hands out the events → `transmit` says what to send. A token
// reaches its store with the events, before the Ack that retires the one before it.

import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { AckSchema, BeaconSchema, type Closed, ClosedSchema, type Denied, type Welcome } from "../gen/waystation/v1/link_pb";
import { Absence } from "./absence";
import { Bound, type Send } from "./bound";
import { type Config, DEFAULTS } from "./config";
import type { ClientEvent, ClientState, SendError } from "./event";
import { type Proof, answerOf, hello } from "./hello";
import { FINAL, Leaving, type Phase, stateOf } from "./phase";
import { type Counts, type Session, begun, countsOf, fromToken, gameFrame, resumed } from "./session";
import {
  FRAME_MAX_BEFORE_WELCOME,
  FRAME_MAX_SERVER,
  type Frame,
  type Lane,
  Reason,
  decode,
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
  #events: ClientEvent[] = [];
  #release = false;
  #leaving: Leaving | undefined;
  readonly #config: Config;
  /** Whether all frames of the link at hand share one stream. */
  #isStream = false;
  /** Whether the server says which Beacons it has back. */
  #tellsEchoes = false;
  /** Whether a refused proof was renewed since the last Welcome. */
  #isProofRenewed = false;

  /** The last Welcome. */
  welcome: Welcome | undefined;
  /** The smoothed round-trip time of this link in milliseconds, as the server's beacons tell it. */
  latencyMs: number | undefined;
  /** The last round-trip time that was measured, on any link. */
  roundTripMs: number | undefined;
  /** Whether the last link was given up because it was silent. */
  wasSilent = false;
  /** The time without a link. */
  readonly absence: Absence;
  /** How often a session was resumed. */
  resumeCount = 0;

  constructor(
    config: Partial<Config>,
    private readonly proof: Proof,
  ) {
    this.#config = { ...DEFAULTS, ...config };
    this.absence = new Absence(this.#config);
  }

  /** Resumes the session of this token, of which nothing else is left. */
  adopt(token: Uint8Array): void {
    if (!this.is("stopped")) {
      this.#session = fromToken(token);
    }
  }

  /**
   * Lets time pass: all that has passed since the last call. `check` finds what it brought to an end,
   * except the link of a page that was asleep, which is lost at once.
   */
  advance(dtMs: number): void {
    const phase = this.#phase;
    const heardMs = Math.min(dtMs, SILENCE_MAX_MS);
    if (phase.is !== "bound") {
      this.absence.awayMs += dtMs;
    }
    this.#leaving?.advance(heardMs);
    if (phase.is === "waiting") {
      phase.leftMs = Math.max(0, phase.leftMs - dtMs);
    } else if (dtMs >= this.#config.linkTimeoutMs) {
      this.#slept(dtMs);
    } else if (phase.is === "greeting") {
      phase.elapsedMs += heardMs;
    } else if (phase.is === "bound") {
      phase.link.advance(heardMs);
    }
  }

  /**
   * For how long nothing was heard on the link at hand or, on a stream, nothing of this client by the
   * server: there the word that the server has given the link up waits behind all that is late. 0 without
   * a link.
   */
  get silenceMs(): number {
    if (this.#phase.is !== "bound") {
      return 0;
    }
    const { silenceMs, deafMs } = this.#phase.link;
    return this.#isStream && this.#tellsEchoes ? Math.max(silenceMs, deafMs) : silenceMs;
  }

  /** For how long the Hello that resumes the session has had no answer; 0 if none is said. */
  get unansweredMs(): number {
    const isSaid = this.#phase.is === "greeting" && this.#phase.said && this.isInWindow();
    return isSaid && this.#phase.is === "greeting" ? this.#phase.elapsedMs : 0;
  }

  /** Whether there is a session that lost its link so recently that the server still keeps it. */
  isInWindow(): boolean {
    return this.#session !== undefined && this.absence.isInWindow;
  }

  /** Whether it is in this phase. */
  is(phase: Phase["is"]): boolean {
    return this.#phase.is === phase;
  }

  /** Whether links should be dialled now. */
  wantsLink(): boolean {
    return this.#phase.is === "waiting" && this.#phase.leftMs <= 0;
  }

  /** Links are being opened. */
  dialled(): void {
    this.#phase = { is: "dialling" };
  }

  /** One of them is open, after `tookMs`, in which there were two round trips at least. */
  opened(tookMs: number, isStream: boolean): void {
    if (this.#phase.is === "dialling") {
      this.#isStream = isStream;
      this.#greet(Math.max(tookMs / 2, this.roundTripMs ?? 0));
    }
  }

  /** Every transport has failed. Returns true if the openings go on, false if this try is over. */
  stillOpening(detail: string): boolean {
    if (this.#phase.is === "dialling" && this.isInWindow()) {
      this.absence.failures += 1;
      this.#events.push({ type: "try-failed", detail, pauseMs: 0 });
      return true;
    }
    this.linkClosed(detail);
    return false;
  }

  #greet(roundTripMs: number): void {
    const timeoutMs = Math.max(this.#config.welcomeTimeoutMs, WELCOME_ROUND_TRIPS * roundTripMs);
    this.#phase = { is: "greeting", elapsedMs: 0, timeoutMs, said: false };
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
      this.#loseLink(this.#phase.link.isSteady, 0, detail);
    }
  }

  /** The link found that the server broke the protocol. Before Welcome it is a try that failed. */
  breached(detail: string): void {
    return this.is("bound") ? this.#broken(detail) : this.linkClosed(detail);
  }

  /** Finds what time has brought to an end. */
  check(): void {
    const phase = this.#phase;
    if (phase.is === "greeting" && phase.elapsedMs >= phase.timeoutMs) {
      this.#fail(0, "the Hello was not answered");
      this.wasSilent = true;
    } else if (this.silenceMs >= this.#config.linkTimeoutMs) {
      this.#loseLink(true, 0, "the link was silent for too long");
      this.wasSilent = true;
    }
    if (this.#leaving?.isOverdue && !this.is("stopped")) {
      this.#giveUp("the Bye was not answered");
    }
  }

  /** Says what to send; what the link refuses is offered again. */
  transmit(send: Send): void {
    if (this.#phase.is === "greeting" && !this.#phase.said) {
      this.#sayHello(send);
    } else if (this.#phase.is === "bound" && this.#session !== undefined) {
      if (this.#phase.link.transmit(this.#session, this.#config.linkTimeoutMs, send)) {
        this.#leaving?.say(send);
      }
    }
  }

  /** Whether there is something to drain or to let go of. */
  hasNews(): boolean {
    return this.#events.length > 0 || this.#release;
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

  /** Ends the session once all that was sent has left. Without a link nobody can be told. */
  leave(): void {
    if (this.#phase.is === "bound") {
      this.#leaving ??= new Leaving();
    } else if (!this.is("stopped")) {
      this.#giveUp("left while there was no link");
    }
  }

  /** Loses the link on purpose and dials again after `holdMs`. */
  cut(holdMs: number): void {
    if (this.#phase.is === "bound") {
      this.#loseLink(true, 0, "cut on purpose");
    }
    if (!this.is("stopped")) {
      this.absence.forget();
      this.#wait(holdMs);
    }
  }

  get state(): ClientState {
    return stateOf(this.#phase, this.#session !== undefined, this.#leaving !== undefined);
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
    const frame = hello(this.#session, this.#config, this.proof);
    if (frame.length > FRAME_MAX_BEFORE_WELCOME) {
      this.#giveUp(`the Hello takes ${frame.length} bytes, the server reads ${FRAME_MAX_BEFORE_WELCOME}`);
    } else if (this.#phase.is === "greeting") {
      this.#phase.said = send(frame);
    }
  }

  /** Before its Welcome a client hears nothing but the answers to its Hello. */
  #takeGreeting(frame: Frame): void {
    try {
      const answer = answerOf(frame);
      if (answer?.$typeName === "waystation.v1.Welcome") {
        this.#welcomed(answer);
      } else if (answer?.$typeName === "waystation.v1.Denied") {
        this.#denied(answer);
      } else if (answer !== undefined) {
        this.#closed(answer);
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
    this.#isProofRenewed = false;
    this.absence.welcomed(welcome.timeoutMs);
    this.#phase = { is: "bound", link: new Bound() };
  }

  #denied(denied: Denied): void {
    const { reason } = denied;
    if (reason === Reason.TOKEN && this.#session !== undefined) {
      // The session is over: Hello anew, on the same link.
      this.#loseSession(reason);
      this.#greet(this.roundTripMs ?? 0);
    } else if (reason === Reason.UNAUTHENTICATED && this.#session === undefined && !this.#isProofRenewed) {
      // A ticket is good for one session and for a short time.
      this.#isProofRenewed = true;
      this.proof.renew();
      this.#fail(0, `the server refused the ticket: ${denied.detail}`);
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
      this.#loseLink(false, closed.retryAfterMs, `the server closed the link: ${reasonName(reason)}`);
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
      this.roundTripMs = this.latencyMs ?? this.roundTripMs;
      link.beacon(beacon.id);
      link.heard.echoed(beacon.echoed ?? 0n);
      this.#tellsEchoes = beacon.echoed !== undefined;
    }
    const received = (ack ?? beacon)?.received;
    if (received === undefined) {
      return;
    }
    if (this.#session?.outbox.acknowledge(received) === false) {
      this.#broken(`${received} frames were acknowledged, more than were sent`);
    } else {
      link.heard.acknowledged(received);
    }
  }

  /** A try failed: the next one follows, unless it was the last. */
  #fail(retryAfterMs: number, detail: string): void {
    const leftMs = this.absence.failed(this.#session !== undefined);
    if (leftMs === undefined) {
      this.#giveUp(detail);
      return;
    }
    const pauseMs = Math.max(leftMs, retryAfterMs);
    this.#events.push({ type: "try-failed", detail, pauseMs });
    this.#wait(pauseMs);
  }

  /** Lets go of all links; the next try starts in `leftMs`. */
  #wait(leftMs: number): void {
    this.#release = true;
    this.wasSilent = false;
    this.#phase = { is: "waiting", leftMs };
  }

  /** The bound link is gone. The session is resumed, at once if the link has lasted. */
  #loseLink(hasLasted: boolean, retryAfterMs: number, detail: string): void {
    this.#events.push({ type: "link-lost", detail });
    this.latencyMs = undefined;
    if (this.#leaving !== undefined) {
      this.#giveUp("the link was lost before the Bye was answered");
      return;
    }
    this.#wait(Math.max(this.absence.lost(hasLasted), retryAfterMs));
  }

  /** The client got neither time nor an event for so long that the server has given its link up. */
  #slept(dtMs: number): void {
    const detail = `the page was asleep for ${Math.round(dtMs)} ms`;
    if (this.#phase.is === "bound") {
      this.#loseLink(true, 0, detail);
    } else if (this.#phase.is !== "stopped") {
      this.#events.push({ type: "try-failed", detail, pauseMs: 0 });
      this.#wait(0);
    }
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

/** An answer to the Hello takes one round trip; three leave room for losses. */
const WELCOME_ROUND_TRIPS = 3;
/** The most silence that one call of `advance` may add. */
const SILENCE_MAX_MS = 1_000;

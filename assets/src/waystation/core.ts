// The client's side of the protocol, without links: its inputs are frames, time and calls, and its outputs are frames
// and events.
//
// The owner of a core reports the state of the link, passes the frames that arrive, and closes the link, unread, when
// `takeRelease` returns true. A frame that is read later would be counted twice, because the server sends it again.
//
// `advance` takes the time that has passed since the last call. If it is less than `linkTimeoutMs`, at most one second
// of it counts as silence, so that frames that arrived meanwhile are handled before the link counts as silent. If it
// is `linkTimeoutMs` or more, the page was asleep and the server has closed the link, so the client dials at once.
//
// Data flow: `advance` → `opened`, `receive` and `linkClosed` → `check` finds timeouts → `drain` returns the events →
// `transmit` sends frames. The events come before the Ack, so a new token is stored before the Ack voids the old one.

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

/** The state of a client, without its link. */
export class Core {
  #phase: Phase = { is: "waiting", leftMs: 0 };
  #session: Session | undefined;
  #events: ClientEvent[] = [];
  #release = false;
  #leaving: Leaving | undefined;
  readonly #config: Config;
  /** True if all frames of the present link share one stream. */
  #isStream = false;
  /** True if the newest Beacon has the field `echoed`. */
  #tellsEchoes = false;
  /** True if a refused ticket was renewed since the last Welcome. */
  #isProofRenewed = false;

  /** The last Welcome. */
  welcome: Welcome | undefined;
  /** The smoothed round-trip time of this link in milliseconds, from the server's Beacons. */
  latencyMs: number | undefined;
  /** The last round-trip time on any link, in milliseconds. */
  roundTripMs: number | undefined;
  /** True if the last link was lost because it was silent. */
  wasSilent = false;
  /** The time without a link. */
  readonly absence: Absence;
  /** How many times a session was resumed. */
  resumeCount = 0;

  constructor(
    config: Partial<Config>,
    private readonly proof: Proof,
  ) {
    this.#config = { ...DEFAULTS, ...config };
    this.absence = new Absence(this.#config);
  }

  /** Resumes the session of a stored token, with a resync. */
  adopt(token: Uint8Array): void {
    if (!this.is("stopped")) {
      this.#session = fromToken(token);
    }
  }

  /**
   * Advances the time by the time since the last call. `check` handles the timeouts, except that the link of a page
   * that was asleep is lost at once.
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
   * The time for which nothing was received on the present link, in milliseconds; 0 without a link. On a stream, also
   * the time for which the server is not known to have received anything, if that is longer: there the server's Closed
   * arrives late.
   */
  get silenceMs(): number {
    if (this.#phase.is !== "bound") {
      return 0;
    }
    const { silenceMs, deafMs } = this.#phase.link;
    return this.#isStream && this.#tellsEchoes ? Math.max(silenceMs, deafMs) : silenceMs;
  }

  /** The time for which the Hello of a resume has had no answer, in milliseconds; 0 if no such Hello was sent. */
  get unansweredMs(): number {
    const isSaid = this.#phase.is === "greeting" && this.#phase.said && this.isInWindow();
    return isSaid && this.#phase.is === "greeting" ? this.#phase.elapsedMs : 0;
  }

  /** Returns true if there is a session without a link that can still be resumed. */
  isInWindow(): boolean {
    return this.#session !== undefined && this.absence.isInWindow;
  }

  /** Returns true if the client is in this phase. */
  is(phase: Phase["is"]): boolean {
    return this.#phase.is === phase;
  }

  /** Returns true if links should be dialled now. */
  wantsLink(): boolean {
    return this.#phase.is === "waiting" && this.#phase.leftMs <= 0;
  }

  /** Notes that links are being opened. */
  dialled(): void {
    this.#phase = { is: "dialling" };
  }

  /** Notes that a link is open after `tookMs`. An opening takes at least two round trips. */
  opened(tookMs: number, isStream: boolean): void {
    if (this.#phase.is === "dialling") {
      this.#isStream = isStream;
      this.#greet(Math.max(tookMs / 2, this.roundTripMs ?? 0));
    }
  }

  /** Notes that every transport has failed. Returns true if the openings go on, false if this try is over. */
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

  /** Makes the next try now, because the network may be back. */
  hurry(): void {
    if (this.#phase.is === "waiting") {
      this.#phase.leftMs = 0;
    }
  }

  /** Handles a frame that has arrived. */
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
        this.#broken(`message ${frame.id} has ${bytes.length} bytes, and at most ${FRAME_MAX_SERVER} are allowed`);
      } else {
        this.#takeBound(this.#phase.link, lane, frame);
      }
    }
  }

  /** Notes that the link has ended or could not be opened. */
  linkClosed(detail: string): void {
    if (this.#phase.is === "dialling" || this.#phase.is === "greeting") {
      this.#fail(0, detail);
    } else if (this.#phase.is === "bound") {
      this.#loseLink(this.#phase.link.isSteady, 0, detail);
    }
  }

  /** Notes that the server has broken the protocol of the transport. Before Welcome this is a failed try. */
  breached(detail: string): void {
    return this.is("bound") ? this.#broken(detail) : this.linkClosed(detail);
  }

  /** Handles timeouts: of the Hello, of the link and of the Bye. */
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

  /** Sends what is due. What the link refuses is sent again later. */
  transmit(send: Send): void {
    if (this.#phase.is === "greeting" && !this.#phase.said) {
      this.#sayHello(send);
    } else if (this.#phase.is === "bound" && this.#session !== undefined) {
      if (this.#phase.link.transmit(this.#session, this.#config.linkTimeoutMs, send)) {
        this.#leaving?.say(send);
      }
    }
  }

  /** Returns true if `drain` or `takeRelease` has something to return. */
  hasNews(): boolean {
    return this.#events.length > 0 || this.#release;
  }

  /** Returns the events since the last call, in order. */
  drain(): ClientEvent[] {
    return this.#events.splice(0);
  }

  /** Returns true once if the present link is to be closed without reading it. */
  takeRelease(): boolean {
    const release = this.#release;
    this.#release = false;
    return release;
  }

  /**
   * Sends a message on its lane. A reliable message is added to the outbox. An unreliable one is sent to `link` at once.
   * Returns the reason if the message was refused.
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

  /** Ends the session by a Bye, behind all messages that were sent before. Without a link no Bye can be sent. */
  leave(): void {
    if (this.#phase.is === "bound") {
      this.#leaving ??= new Leaving();
    } else if (!this.is("stopped")) {
      this.#giveUp("the client left while it had no link");
    }
  }

  /** Drops the link and dials again after `holdMs`. */
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

  /** The numbers of counted frames that were sent, acknowledged and received. */
  get counts(): Counts {
    return countsOf(this.#session);
  }

  #sayHello(send: Send): void {
    const frame = hello(this.#session, this.#config, this.proof);
    if (frame.length > FRAME_MAX_BEFORE_WELCOME) {
      this.#giveUp(`the Hello has ${frame.length} bytes, and at most ${FRAME_MAX_BEFORE_WELCOME} are allowed`);
    } else if (this.#phase.is === "greeting") {
      this.#phase.said = send(frame);
    }
  }

  /** Handles an answer to the Hello. Before Welcome a client ignores all other frames. */
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
      this.#fail(0, `the Welcome of the server ${id === 0n ? "has no session id" : "resumes a session that was not asked for"}`);
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
      // The session is over: a Hello for a new session follows on the same link.
      this.#loseSession(reason);
      this.#greet(this.roundTripMs ?? 0);
    } else if (reason === Reason.UNAUTHENTICATED && this.#session === undefined && !this.#isProofRenewed) {
      // The ticket may have expired or may have been used.
      this.#isProofRenewed = true;
      this.proof.renew();
      this.#fail(0, `the server refused the ticket: ${denied.detail}`);
    } else if (FINAL.has(reason)) {
      this.#loseSession(reason);
      this.#stop(reason, denied.detail);
    } else {
      this.#fail(denied.retryAfterMs, `the server refused the Hello: ${reasonName(reason)} ${denied.detail}`);
    }
  }

  /** Handles a Closed. Its reason decides whether the session goes on. */
  #closed(closed: Closed): void {
    const { reason } = closed;
    if (reason === Reason.BYE && this.#leaving !== undefined) {
      this.#session = undefined;
      this.#stop(reason, closed.detail);
    } else if (reason === Reason.PROTOCOL) {
      this.#broken(`the server reports an error of this client: ${closed.detail}`);
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
        this.#broken(`message ${frame.id} arrived on the unreliable lane`);
        return;
      }
      if (this.#session !== undefined) {
        this.#session.received += 1n;
        link.counted();
      }
    }
    this.#events.push({ type: "message", frame });
  }

  /** Handles link control. Unknown link control, and link control that only clients send, is ignored. */
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
      this.#broken(`the server acknowledges ${received} frames, more than were sent`);
    } else {
      link.heard.acknowledged(received);
    }
  }

  /** Handles a failed try: waits for the next one, or stops if it was the last one. */
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

  /** Releases the link. The next try starts after `leftMs`. */
  #wait(leftMs: number): void {
    this.#release = true;
    this.wasSilent = false;
    this.#phase = { is: "waiting", leftMs };
  }

  /** Handles the loss of the link that drives the session. The next try starts at once if the link has lasted. */
  #loseLink(hasLasted: boolean, retryAfterMs: number, detail: string): void {
    this.#events.push({ type: "link-lost", detail });
    this.latencyMs = undefined;
    if (this.#leaving !== undefined) {
      this.#giveUp("the link was lost before the Bye was answered");
      return;
    }
    this.#wait(Math.max(this.absence.lost(hasLasted), retryAfterMs));
  }

  /** Handles a sleep of the page for so long that the server has closed the link. */
  #slept(dtMs: number): void {
    const detail = `the page was asleep for ${Math.round(dtMs)} ms`;
    if (this.#phase.is === "bound") {
      this.#loseLink(true, 0, detail);
    } else if (this.#phase.is !== "stopped") {
      this.#events.push({ type: "try-failed", detail, pauseMs: 0 });
      this.#wait(0);
    }
  }

  /** Ends the session and reports how many messages were not acknowledged. */
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

  /** Stops after an offence of the server. A resume would repeat it, so the session is over. */
  #broken(detail: string): void {
    this.#loseSession(Reason.PROTOCOL);
    this.#stop(Reason.PROTOCOL, detail);
  }
}

/** Round trips for the answer to a Hello. It takes one; three leave room for losses. */
const WELCOME_ROUND_TRIPS = 3;
/** The most silence that one call of `advance` adds, in milliseconds. */
const SILENCE_MAX_MS = 1_000;

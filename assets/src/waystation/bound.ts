// What belongs to one link of a session and goes with it: silence, acks and echoes.

import { AckSchema, PingSchema } from "../gen/waystation/v1/link_pb";
import { Heard } from "./heard";
import type { Session } from "./session";
import { encode } from "./wire";

/** Hands a frame to the link; false if the link has no room now. */
export type Send = (frame: Uint8Array) => boolean;

/** A link that a session has. */
export class Bound {
  /** Since the Welcome. */
  #ageMs = 0;
  /** Since something was heard. */
  silenceMs = 0;
  /** Since something was sent. */
  #idleMs = 0;
  /** Frames counted since the last Ack, and for how long the oldest has waited. */
  #uncounted = 0;
  #waitedMs = 0;
  /** Beacons that are not echoed yet. */
  #beacons: bigint[] = [];
  /** What the server hears of this client. */
  readonly heard = new Heard();

  /** The Ack that follows Welcome is not sent yet. */
  isGreeting = true;

  advance(dtMs: number): void {
    this.#ageMs += dtMs;
    this.silenceMs += dtMs;
    this.heard.advance(dtMs);
    this.#idleMs += dtMs;
    this.#waitedMs += this.#uncounted > 0 ? dtMs : 0;
  }

  /** Whether the link lasted long enough that its loss may be followed by a try without a pause. */
  get isSteady(): boolean {
    return this.#ageMs >= STEADY_MS;
  }

  /** A frame was counted, so an Ack is owed. */
  counted(): void {
    this.#uncounted += 1;
  }

  /** A Beacon is to be echoed. */
  beacon(id: bigint): void {
    this.#beacons.push(id);
    this.#beacons.splice(0, this.#beacons.length - BEACONS_MAX);
  }

  /** How long the server has not heard this client, as far as its Beacons tell. */
  get deafMs(): number {
    return this.heard.silenceMs;
  }

  /** Sends the Ack that is due, echoes, and the outbox in order; true if nothing is left. */
  transmit({ received, outbox }: Session, linkTimeoutMs: number, send: Send): boolean {
    if (this.#owesAck(linkTimeoutMs)) {
      if (!send(encode(AckSchema, { received }))) {
        return false;
      }
      this.isGreeting = false;
      this.#uncounted = this.#waitedMs = this.#idleMs = 0;
    }
    for (let id = this.#beacons[0]; id !== undefined; id = this.#beacons[0]) {
      if (!send(encode(PingSchema, { id, received }))) {
        break;
      }
      this.#beacons.shift();
      this.heard.sentEcho(id);
      this.#idleMs = 0;
    }
    for (let frame = outbox.next(); frame !== undefined; frame = outbox.next()) {
      if (!send(frame)) {
        return false;
      }
      outbox.advance();
      this.heard.sent(outbox.given);
      this.#idleMs = 0;
    }
    return true;
  }

  #owesAck(linkTimeoutMs: number): boolean {
    return (
      this.isGreeting ||
      this.#uncounted >= ACK_EVERY_FRAMES ||
      this.#waitedMs >= ACK_EVERY_MS ||
      this.#idleMs >= linkTimeoutMs / IDLE_FRACTION
    );
  }
}

/** A link that ends sooner may end again at once: without a pause, the tries would follow each other without end. */
const STEADY_MS = 1_000;
/** An Ack is sent at the latest after this many counted frames. */
const ACK_EVERY_FRAMES = 64;
/** An Ack is sent at the latest this long after a counted frame. */
const ACK_EVERY_MS = 1_000;
/** An idle client is heard from four times a link timeout; twice is what the server counts on. */
const IDLE_FRACTION = 4;
/** Beacons that wait for their echo while the link takes nothing; older ones tell no latency. */
const BEACONS_MAX = 8;

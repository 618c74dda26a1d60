// The state of the link that drives a session: silence, Acks and Pings.

import { AckSchema, PingSchema } from "../gen/waystation/v1/link_pb";
import { Heard } from "./heard";
import type { Session } from "./session";
import { encode } from "./wire";

/** Passes a frame to the link. Returns false if the link has no room. */
export type Send = (frame: Uint8Array) => boolean;

/** The link that drives a session. */
export class Bound {
  /** The time since the Welcome. */
  #ageMs = 0;
  /** The time since a frame was received, in milliseconds. */
  silenceMs = 0;
  /** The time since a frame was sent. */
  #idleMs = 0;
  /** The number of frames counted since the last Ack, and the time since the oldest of them. */
  #uncounted = 0;
  #waitedMs = 0;
  /** The ids of Beacons that have no Ping yet. */
  #beacons: bigint[] = [];
  /** Which frames of this client are known to have arrived. */
  readonly heard = new Heard();

  /** True until the Ack that follows Welcome is sent. */
  isGreeting = true;

  advance(dtMs: number): void {
    this.#ageMs += dtMs;
    this.silenceMs += dtMs;
    this.heard.advance(dtMs);
    this.#idleMs += dtMs;
    this.#waitedMs += this.#uncounted > 0 ? dtMs : 0;
  }

  /** True if the link has lasted for so long that the next try needs no pause. */
  get isSteady(): boolean {
    return this.#ageMs >= STEADY_MS;
  }

  /** Notes a counted frame, which needs an Ack. */
  counted(): void {
    this.#uncounted += 1;
  }

  /** Notes a Beacon, which needs a Ping. */
  beacon(id: bigint): void {
    this.#beacons.push(id);
    this.#beacons.splice(0, this.#beacons.length - BEACONS_MAX);
  }

  /** The time for which the server is not known to have received anything, in milliseconds. */
  get deafMs(): number {
    return this.heard.silenceMs;
  }

  /** Sends the Ack that is due, Pings, and the outbox in order. Returns true if the outbox was sent completely. */
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

/** After a link that ends sooner, the next try waits for a pause, so that failing links do not follow each other at once. */
const STEADY_MS = 1_000;
/** An Ack is sent at the latest after this many counted frames. */
const ACK_EVERY_FRAMES = 64;
/** An Ack is sent at the latest this long after a counted frame. */
const ACK_EVERY_MS = 1_000;
/** An idle client sends an Ack four times in a link timeout. The protocol requires twice. */
const IDLE_FRACTION = 4;
/** The most Beacons that wait for their Ping while the link has no room. Older ones are dropped. */
const BEACONS_MAX = 8;

// What belongs to one link of a session and goes with it: silence, acks and echoes.

import { AckSchema, PingSchema } from "../gen/waystation/v1/link_pb";
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
  /** Echoes that were sent, by Beacon, and how long ago; the server has not said that it has them. */
  #echoes: { id: bigint; ageMs: number }[] = [];
  /** Since the newest frame was sent of which it is known that the server has it: at first, the Hello. */
  #unheardMs = 0;

  /** The Ack that follows Welcome is not sent yet. */
  isGreeting = true;

  advance(dtMs: number): void {
    this.#ageMs += dtMs;
    this.silenceMs += dtMs;
    this.#unheardMs += dtMs;
    for (const echo of this.#echoes) {
      echo.ageMs += dtMs;
    }
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

  /** The server has the echo of this Beacon. */
  echoed(id: bigint): void {
    const heard = this.#echoes.filter((echo) => echo.id <= id);
    this.#echoes.splice(0, heard.length);
    this.#unheardMs = Math.min(this.#unheardMs, ...heard.map(({ ageMs }) => ageMs));
  }

  /** How long the server has not heard this client, as far as its Beacons tell. */
  get deafMs(): number {
    return this.#unheardMs - TOLD_WITHIN_MS;
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
      this.#echoes.push({ id, ageMs: 0 });
      this.#echoes.splice(0, this.#echoes.length - ECHOES_MAX);
      this.#idleMs = 0;
    }
    for (let frame = outbox.next(); frame !== undefined; frame = outbox.next()) {
      if (!send(frame)) {
        return false;
      }
      outbox.advance();
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
/**
 * What an echo takes besides a round trip until its client knows that it has arrived: it leaves each second,
 * and each second the server tells of it.
 */
const TOLD_WITHIN_MS = 2_000;
/** Echoes that are kept until the server has them: those of the longest round trip that a link survives, twice. */
const ECHOES_MAX = 16;
/** Beacons that wait for their echo while the link takes nothing; older ones tell no latency. */
const BEACONS_MAX = 8;

// Frames: a message id of 16 bits, big-endian, and a proto3 body.

import {
  type DescMessage,
  type MessageShape,
  type MessageInitShape,
  create,
  fromBinary,
  getOption,
  toBinary,
} from "@bufbuild/protobuf";
import { id as idOption } from "../gen/waystation/v1/options_pb";
import { Reason } from "../gen/waystation/v1/reason_pb";

/** The version of the protocol. */
export const PROTOCOL = 1;
/** The longest frame of a client before Welcome, in bytes. */
export const FRAME_MAX_BEFORE_WELCOME = 4 * 1024;
/** The longest frame of a client after Welcome, in bytes. */
export const FRAME_MAX_CLIENT = 16 * 1024;
/** The longest frame of a server, in bytes. */
export const FRAME_MAX_SERVER = 64 * 1024;

/** A frame: its message id, and its body, which is not decoded. */
export interface Frame {
  readonly id: number;
  readonly body: Uint8Array;
}

/** A lane: reliable and in order, or unreliable. */
export type Lane = "reliable" | "unreliable";

/** A range of message ids: link control, session messages, or messages of the game. */
export type Range = "link" | "session" | "game" | "game-unreliable";

/**
 * Returns the message id of a message type, its proto option `(waystation.v1.id)`. The option is read once for each type.
 * Throws if the type has no id.
 */
export function idOf(schema: DescMessage): number {
  let id = ids.get(schema);
  if (id === undefined) {
    id = getOption(schema, idOption);
    if (id === 0) {
      throw new Error(`${schema.typeName} has no message id, so it cannot be a frame: add the option (waystation.v1.id)`);
    }
    ids.set(schema, id);
  }
  return id;
}

/** Encodes a message as a frame. */
export function encode<T extends DescMessage>(schema: T, message: MessageInitShape<T>): Uint8Array {
  const body = toBinary(schema, create(schema, message));
  const frame = new Uint8Array(ID_BYTES + body.length);
  new DataView(frame.buffer).setUint16(0, idOf(schema));
  frame.set(body, ID_BYTES);
  return frame;
}

/** Splits the bytes of a frame into id and body. Returns undefined if they are too short for an id. */
export function parse(bytes: Uint8Array): Frame | undefined {
  const [high, low] = bytes;
  if (high === undefined || low === undefined) {
    return undefined;
  }
  return { id: (high << 8) | low, body: bytes.subarray(ID_BYTES) };
}

/** Decodes a frame as a message type. Returns undefined if it has another type. Throws if its body does not parse. */
export function decode<T extends DescMessage>(schema: T, frame: Frame): MessageShape<T> | undefined {
  return frame.id === idOf(schema) ? fromBinary(schema, frame.body) : undefined;
}

/** Returns the lane of a message id, which is its bit 15. */
export function laneOf(id: number): Lane {
  return id & UNRELIABLE_BIT ? "unreliable" : "reliable";
}

/** Returns the range of a message id. */
export function rangeOf(id: number): Range {
  const low = id & ~UNRELIABLE_BIT;
  if (laneOf(id) === "unreliable") {
    return low <= 0xff ? "link" : "game-unreliable";
  }
  if (low <= 0x3f) {
    return "link";
  }
  return low <= 0xff ? "session" : "game";
}

/** Returns true if both sides count frames with this id. */
export function isCounted(id: number): boolean {
  return laneOf(id) === "reliable" && rangeOf(id) !== "link";
}

/** Returns the name of a reason as in `reason.proto` without its prefix, for example `KICKED`. */
export function reasonName(reason: Reason | undefined): string {
  return reason === undefined ? "no reason" : (Reason[reason] ?? `reason ${reason}`);
}

/** Returns a session id as the server's log shows it: 16 hexadecimal digits. */
export function sessionText(session: bigint): string {
  return session.toString(16).padStart(16, "0");
}

export { Reason };

const ids = new Map<DescMessage, number>();
/** The bytes of a message id. */
const ID_BYTES = 2;
/** The bit that is set in the ids of unreliable messages. */
const UNRELIABLE_BIT = 0x8000;

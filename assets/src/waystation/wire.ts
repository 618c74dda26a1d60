// Frames: `u16 big-endian message id`, then a proto3 body (the wire's rules, as both ends keep them).

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

/** The version of the protocol that this client speaks. */
export const PROTOCOL = 1;
/** Longest frame before Welcome, in bytes: what the server reads of a stranger. */
export const FRAME_MAX_BEFORE_WELCOME = 4 * 1024;
/** Longest frame of a client after its Welcome, in bytes. */
export const FRAME_MAX_CLIENT = 16 * 1024;
/** Longest frame of a server, in bytes. */
export const FRAME_MAX_SERVER = 64 * 1024;

/** A frame, split into its id and its body; the body is not yet decoded. */
export interface Frame {
  readonly id: number;
  readonly body: Uint8Array;
}

/** Which delivery a frame gets. */
export type Lane = "reliable" | "unreliable";

/** Who owns a message id. */
export type Range = "link" | "session" | "game" | "game-unreliable";

/**
 * The message id of a type of message: its proto option `(waystation.v1.id)`. Read once a type, for
 * every frame asks for it.
 */
export function idOf(schema: DescMessage): number {
  let id = ids.get(schema);
  if (id === undefined) {
    id = getOption(schema, idOption);
    if (id === 0) {
      throw new Error(`${schema.typeName} has no message id: it is a part of others, never a frame`);
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

/** Splits a frame that a transport delivered; nothing if it is too short to have an id. */
export function parse(bytes: Uint8Array): Frame | undefined {
  const [high, low] = bytes;
  if (high === undefined || low === undefined) {
    return undefined;
  }
  return { id: (high << 8) | low, body: bytes.subarray(ID_BYTES) };
}

/** Reads a frame as a type of message; nothing if it is another one. Throws if its body does not parse. */
export function decode<T extends DescMessage>(schema: T, frame: Frame): MessageShape<T> | undefined {
  return frame.id === idOf(schema) ? fromBinary(schema, frame.body) : undefined;
}

/** The lane of a message of that id: bit 15 says it. */
export function laneOf(id: number): Lane {
  return id & UNRELIABLE_BIT ? "unreliable" : "reliable";
}

/** Who owns that id. */
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

/** Whether both sides count frames of that id. */
export function isCounted(id: number): boolean {
  return laneOf(id) === "reliable" && rangeOf(id) !== "link";
}

/** The name of a reason, as in `reason.proto`, without its prefix: `KICKED`. */
export function reasonName(reason: Reason | undefined): string {
  return reason === undefined ? "nothing was said" : (Reason[reason] ?? `reason ${reason}`);
}

/** A session id as logs and the server show it: 16 hexadecimal digits. */
export function sessionText(session: bigint): string {
  return session.toString(16).padStart(16, "0");
}

export { Reason };

const ids = new Map<DescMessage, number>();
/** Length of the id before a frame's body. */
const ID_BYTES = 2;
/** Set in the ids of unreliable messages. */
const UNRELIABLE_BIT = 0x8000;

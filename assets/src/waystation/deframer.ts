// Splits a stream into frames. Each frame is preceded by its length, a protobuf varint that includes the message id.

import { FRAME_MAX_SERVER } from "./wire";

/** Returns a frame with its length before it. */
export function enframe(frame: Uint8Array): Uint8Array {
  const length: number[] = [];
  let rest = frame.length;
  while (rest > 0x7f) {
    length.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  length.push(rest);
  const bytes = new Uint8Array(length.length + frame.length);
  bytes.set(length);
  bytes.set(frame, length.length);
  return bytes;
}

/** A length on the stream is too long. The stream cannot be read further. */
export class FrameTooLong extends Error {}

/** Splits the bytes of a stream into frames. It holds at most one frame and one read of the stream. */
export class Deframer {
  #bytes = new Uint8Array(0);

  /** Adds bytes that were read. */
  push(bytes: Uint8Array): void {
    if (this.#bytes.length === 0) {
      this.#bytes = new Uint8Array(bytes);
      return;
    }
    const joined = new Uint8Array(this.#bytes.length + bytes.length);
    joined.set(this.#bytes);
    joined.set(bytes, this.#bytes.length);
    this.#bytes = joined;
  }

  /** Returns the next whole frame, or undefined if it has not arrived. Throws `FrameTooLong` if its length is too long. */
  next(): Uint8Array | undefined {
    let length = 0;
    for (let index = 0; index < LENGTH_MAX_BYTES; index += 1) {
      const byte = this.#bytes[index];
      if (byte === undefined) {
        return undefined;
      }
      length |= (byte & 0x7f) << (7 * index);
      if (byte <= 0x7f) {
        return this.#take(index + 1, length);
      }
    }
    throw new FrameTooLong(`the length of a frame has more than ${LENGTH_MAX_BYTES} bytes`);
  }

  #take(start: number, length: number): Uint8Array | undefined {
    if (length > FRAME_MAX_SERVER) {
      throw new FrameTooLong(`a frame has ${length} bytes, and at most ${FRAME_MAX_SERVER} are allowed`);
    }
    if (this.#bytes.length < start + length) {
      return undefined;
    }
    const frame = this.#bytes.subarray(start, start + length);
    this.#bytes = this.#bytes.subarray(start + length);
    return frame;
  }
}

/** The longest varint: 64 KiB needs three bytes. */
const LENGTH_MAX_BYTES = 3;

// Frames on a stream: each is preceded by its length, id included, as a protobuf varint.

import { FRAME_MAX_SERVER } from "./wire";

/** Puts the length before a frame. */
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

/** The server announces a frame that is too long. Nothing behind it can be read. */
export class FrameTooLong extends Error {}

/** Cuts what a stream delivers into frames. It holds one frame and one read of the stream at most. */
export class Deframer {
  #bytes = new Uint8Array(0);

  /** Takes in what was read. */
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

  /** The next whole frame, if it has arrived. Throws `FrameTooLong` if the server announces one. */
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
    throw new FrameTooLong(`a frame's length takes more than ${LENGTH_MAX_BYTES} bytes`);
  }

  #take(start: number, length: number): Uint8Array | undefined {
    if (length > FRAME_MAX_SERVER) {
      throw new FrameTooLong(`a frame of ${length} bytes: a server may send ${FRAME_MAX_SERVER}`);
    }
    if (this.#bytes.length < start + length) {
      return undefined;
    }
    const frame = this.#bytes.subarray(start, start + length);
    this.#bytes = this.#bytes.subarray(start + length);
    return frame;
  }
}

/** 64 KiB takes three bytes. */
const LENGTH_MAX_BYTES = 3;

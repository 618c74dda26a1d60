// The reliable frames that the server has not counted yet: the send queue, with a cursor for the
// link at hand.

/** Most frames that wait to be acknowledged: eight acks' worth. */
export const OUTBOX_MAX_FRAMES = 512;
/** Most bytes that wait to be acknowledged. */
export const OUTBOX_MAX_BYTES = 256 * 1024;

/** Frames are numbered from 1; those up to `trimmed` are acknowledged and gone. */
export class Outbox {
  #frames: Uint8Array[] = [];
  #bytes = 0;
  #trimmed = 0n;
  /** How many of the frames the link at hand was given. */
  #cursor = 0;
  /** How many of them any link was ever given; the rest have no number yet. */
  #tried = 0;

  /** Takes a frame; false if there is no room. */
  push(frame: Uint8Array): boolean {
    if (this.#frames.length >= OUTBOX_MAX_FRAMES || this.#bytes + frame.length > OUTBOX_MAX_BYTES) {
      return false;
    }
    this.#frames.push(frame);
    this.#bytes += frame.length;
    return true;
  }

  /** The next frame for the link at hand. */
  next(): Uint8Array | undefined {
    return this.#frames[this.#cursor];
  }

  /** The link took what `next` returned. */
  advance(): void {
    this.#cursor = Math.min(this.#cursor + 1, this.#frames.length);
    this.#tried = Math.max(this.#tried, this.#cursor);
  }

  /**
   * The server has counted `received` frames, says an Ack or a Beacon on the link at hand. Fewer
   * than were known is an old ack. False if it is more than was sent.
   */
  acknowledge(received: bigint): boolean {
    if (received > this.#trimmed + BigInt(this.#cursor)) {
      return false;
    }
    this.#trim(received);
    return true;
  }

  /**
   * A new link is bound and the server has counted `received` frames, says its Welcome. Each side
   * takes the higher count. If that is beyond all that any link was given, what was never given to
   * one is numbered anew, after it.
   */
  rebase(received: bigint): void {
    this.#cursor = 0;
    const known = this.#trimmed + BigInt(this.#tried);
    this.#trim(received < known ? received : known);
    if (received > this.#trimmed) {
      this.#trimmed = received;
    }
  }

  #trim(received: bigint): void {
    const count = Number(received - this.#trimmed);
    if (count <= 0) {
      return;
    }
    const gone = this.#frames.splice(0, count);
    for (const frame of gone) {
      this.#bytes -= frame.length;
    }
    this.#trimmed += BigInt(gone.length);
    this.#cursor = Math.max(0, this.#cursor - gone.length);
    this.#tried = Math.max(0, this.#tried - gone.length);
  }

  /** Frames up to the last one that the link at hand was given. */
  get given(): bigint {
    return this.#trimmed + BigInt(this.#cursor);
  }

  /** Frames that the server has not acknowledged. */
  get length(): number {
    return this.#frames.length;
  }

  /** Frames that the server has acknowledged. */
  get trimmed(): bigint {
    return this.#trimmed;
  }

  /** All frames so far, acknowledged or not. */
  get total(): bigint {
    return this.#trimmed + BigInt(this.#frames.length);
  }
}

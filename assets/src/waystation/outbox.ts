// The counted frames that the server has not acknowledged, in order, with a cursor for the present link.

/** The most frames in an outbox. */
export const OUTBOX_MAX_FRAMES = 512;
/** The most bytes in an outbox, message ids included. */
export const OUTBOX_MAX_BYTES = 256 * 1024;

/** The outbox of a session. Frames are numbered from 1. Those up to `trimmed` are acknowledged and removed. */
export class Outbox {
  #frames: Uint8Array[] = [];
  #bytes = 0;
  #trimmed = 0n;
  /** How many of the frames were sent on the present link. */
  #cursor = 0;
  /** How many of the frames were sent on any link. The others have no number yet. */
  #tried = 0;

  /** Adds a frame. Returns false if there is no room. */
  push(frame: Uint8Array): boolean {
    if (this.#frames.length >= OUTBOX_MAX_FRAMES || this.#bytes + frame.length > OUTBOX_MAX_BYTES) {
      return false;
    }
    this.#frames.push(frame);
    this.#bytes += frame.length;
    return true;
  }

  /** Returns the next frame for the present link. */
  next(): Uint8Array | undefined {
    return this.#frames[this.#cursor];
  }

  /** Notes that the frame of `next` was sent. */
  advance(): void {
    this.#cursor = Math.min(this.#cursor + 1, this.#frames.length);
    this.#tried = Math.max(this.#tried, this.#cursor);
  }

  /**
   * Applies an acknowledgement of `received` frames on the present link. A lower one than before is ignored. Returns
   * false if it is above what was sent on the present link.
   */
  acknowledge(received: bigint): boolean {
    if (received > this.#trimmed + BigInt(this.#cursor)) {
      return false;
    }
    this.#trim(received);
    return true;
  }

  /**
   * Applies the acknowledgement of a Welcome, and starts at the first frame on its link. If `received` is above all that was sent on
   * any link, the count is raised to it, and frames that were never sent get the numbers behind it.
   */
  rebase(received: bigint): void {
    this.#cursor = 0;
    this.#trim(received < this.sent ? received : this.sent);
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

  /** The number of the last frame that was sent on any link. */
  get sent(): bigint {
    return this.#trimmed + BigInt(this.#tried);
  }

  /** The number of the last frame that was sent on the present link. */
  get given(): bigint {
    return this.#trimmed + BigInt(this.#cursor);
  }

  /** The number of frames that the server has not acknowledged. */
  get length(): number {
    return this.#frames.length;
  }

  /** The number of frames that the server has acknowledged. */
  get trimmed(): bigint {
    return this.#trimmed;
  }

  /** The number of all frames so far, acknowledged or not. */
  get total(): bigint {
    return this.#trimmed + BigInt(this.#frames.length);
  }
}

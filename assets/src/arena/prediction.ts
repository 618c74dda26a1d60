// Predicts the position of the client's own avatar: the newest position from the server, moved on by all inputs that it
// does not include yet.

import { INPUT_MASK, type Newest, type Point, clamp } from "./world";

/** An input, and the time at which it was sent. */
interface Wish extends Point {
  atMs: number;
  tick: bigint;
}

/** The speed of an avatar in units per second, as in the arena. */
export const SPEED = 10;

/** The prediction for the client's own avatar. Positions from the server correct it gradually. */
export class Prediction {
  #wishes: Wish[] = [];
  #server: Point | undefined;
  #serverAtMs = 0;
  /** The age of the inputs that a snapshot includes, when it arrives. It is learned. */
  #lagMs = 0;
  /** The difference of the shown position from the predicted one. It decays. */
  #error: Point = { x: 0, y: 0 };
  #shown: Point | undefined;
  #shownAtMs = 0;
  /** The client's own count of its inputs. */
  #tick = 0n;

  /** Forgets the position. The count of inputs goes on. */
  clear(): void {
    this.#wishes = [];
    this.#server = undefined;
    this.#shown = undefined;
    this.#error = { x: 0, y: 0 };
  }

  /** Notes an input that is sent now. Returns its number. */
  wish(wish: Point, nowMs: number): bigint {
    this.#tick += 1n;
    this.#push({ ...wish, atMs: nowMs, tick: this.#tick });
    return this.#tick;
  }

  /** Stops the avatar, because the link is lost and the server stops it too. */
  stand(nowMs: number): void {
    this.#push({ x: 0, y: 0, atMs: nowMs, tick: this.#tick });
  }

  #push(wish: Wish): void {
    this.#wishes.push(wish);
    if (this.#wishes.length > WISHES_MAX) {
      this.#wishes.shift();
    }
  }

  /** Corrects the prediction by a position from the server. */
  correct(newest: Newest, nowMs: number, size: Point): void {
    const before = this.#shown && this.shown(nowMs, size);
    this.#learnLag(newest);
    this.#server = { x: newest.x, y: newest.y };
    this.#serverAtMs = newest.atMs;
    if (before !== undefined) {
      const now = this.#predicted(nowMs, size);
      const error = { x: before.x - now.x, y: before.y - now.y };
      // After a large error, which the game has caused, the avatar is shown at its new position at once.
      this.#error = Math.hypot(error.x, error.y) > ERROR_MAX ? { x: 0, y: 0 } : error;
    }
  }

  /** Learns the age of inputs: the snapshot was made between the newest input that it includes and the next one. */
  #learnLag(newest: Newest): void {
    const bits = BigInt(newest.inputBits);
    const mask = BigInt(INPUT_MASK);
    const index = this.#wishes.findLastIndex((wish) => (wish.tick & mask) === bits);
    const held = this.#wishes[index];
    const next = this.#wishes[index + 1];
    if (held === undefined || next === undefined || next.atMs - held.atMs > GAP_MAX_MS) {
      return;
    }
    const lag = clamp(newest.atMs - (held.atMs + next.atMs) / 2, 0, LAG_MAX_MS);
    const gain = Math.abs(lag - this.#lagMs) > LAG_OFF_MS ? 1 : LAG_GAIN;
    this.#lagMs += (lag - this.#lagMs) * gain;
  }

  /** Returns the position at which to draw the avatar. */
  shown(nowMs: number, size: Point): Point | undefined {
    if (this.#server === undefined) {
      return undefined;
    }
    const share = Math.exp(-Math.max(0, nowMs - this.#shownAtMs) / ERROR_LIFE_MS);
    this.#error = { x: this.#error.x * share, y: this.#error.y * share };
    const { x, y } = this.#predicted(nowMs, size);
    this.#shown = { x: clamp(x + this.#error.x, 0, size.x), y: clamp(y + this.#error.y, 0, size.y) };
    this.#shownAtMs = nowMs;
    return this.#shown;
  }

  /** Returns the position from the server, moved on by the inputs since. */
  #predicted(nowMs: number, size: Point): Point {
    let { x, y } = this.#server ?? { x: 0, y: 0 };
    const start = this.#serverAtMs - this.#lagMs;
    this.#wishes.forEach((wish, index) => {
      const from = Math.max(wish.atMs, start);
      const to = Math.min(this.#wishes[index + 1]?.atMs ?? nowMs, nowMs);
      const way = (SPEED * Math.max(0, to - from)) / 1_000;
      x = clamp(x + wish.x * way, 0, size.x);
      y = clamp(y + wish.y * way, 0, size.y);
    });
    return { x, y };
  }
}

/** The number of inputs that are kept: those that five bits can distinguish. */
const WISHES_MAX = 31;
/** The age of inputs is not learned from two inputs that are further apart than this, in milliseconds. */
const GAP_MAX_MS = 120;
/** The longest age of inputs, in milliseconds. It is within the inputs that are kept. */
const LAG_MAX_MS = 1_500;
/** An age that differs by more than this is that of another link, and is not averaged. */
const LAG_OFF_MS = 120;
/** The weight of a new age in the average. */
const LAG_GAIN = 0.1;
/** The time in which the difference of the shown position decays to about a third, in milliseconds. */
const ERROR_LIFE_MS = 120;
/** A difference above this is not smoothed: the distance of one second, in units. */
const ERROR_MAX = SPEED;

// The client's own avatar, where it is now: the newest place that the server told, and all inputs
// since that it cannot have held yet.

import { INPUT_MASK, type Newest, type Point, clamp } from "./world";

/** A wish to move, from the time that it was sent. */
interface Wish extends Point {
  atMs: number;
  tick: bigint;
}

/** Units a second, as in the arena. */
export const SPEED = 10;

/** Predicts the client's own avatar, and corrects itself gently by what the server tells. */
export class Prediction {
  #wishes: Wish[] = [];
  #server: Point | undefined;
  #serverAtMs = 0;
  /** How long ago the inputs were sent that a snapshot holds, when it arrives; learned. */
  #lagMs = 0;
  /** What is shown is off from what is predicted by this, less and less. */
  #error: Point = { x: 0, y: 0 };
  #shown: Point | undefined;
  #shownAtMs = 0;
  /** The client's own count of its inputs. */
  #tick = 0n;

  /** Forgets where it is; the count of inputs goes on. */
  clear(): void {
    this.#wishes = [];
    this.#server = undefined;
    this.#shown = undefined;
    this.#error = { x: 0, y: 0 };
  }

  /** A wish is sent now: its number. */
  wish(wish: Point, nowMs: number): bigint {
    this.#tick += 1n;
    this.#push({ ...wish, atMs: nowMs, tick: this.#tick });
    return this.#tick;
  }

  /** The link is away: the server lets the avatar stand still, and so does the page. */
  stand(nowMs: number): void {
    this.#push({ x: 0, y: 0, atMs: nowMs, tick: this.#tick });
  }

  #push(wish: Wish): void {
    this.#wishes.push(wish);
    if (this.#wishes.length > WISHES_MAX) {
      this.#wishes.shift();
    }
  }

  /** The server told where the avatar was. */
  correct(newest: Newest, nowMs: number, size: Point): void {
    const before = this.#shown && this.shown(nowMs, size);
    this.#learnLag(newest);
    this.#server = { x: newest.x, y: newest.y };
    this.#serverAtMs = newest.atMs;
    if (before !== undefined) {
      const now = this.#predicted(nowMs, size);
      const error = { x: before.x - now.x, y: before.y - now.y };
      // Whoever is far off was moved by the game, and does not glide there.
      this.#error = Math.hypot(error.x, error.y) > ERROR_MAX ? { x: 0, y: 0 } : error;
    }
  }

  /** The newest input that the snapshot holds was sent between two of ours. */
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

  /** Where to draw the avatar. */
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

  /** The server's place, and the way that the wishes since lead from there. */
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

/** Wishes that are kept: those that five bits tell apart. */
const WISHES_MAX = 31;
/** Between inputs that are further apart, nothing can be learned of when one was taken. */
const GAP_MAX_MS = 120;
/** A lag that is longer than what is kept of the wishes is none. */
const LAG_MAX_MS = 1_500;
/** A lag that differs by more is another link's, and is taken as it is. */
const LAG_OFF_MS = 120;
const LAG_GAIN = 0.1;
/** How fast an error of what is shown goes: to a third in this time. */
const ERROR_LIFE_MS = 120;
/** An error larger than a second's way is no error. */
const ERROR_MAX = SPEED;

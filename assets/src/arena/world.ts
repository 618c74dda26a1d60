// The state of the plane on the page: avatars, pellets, names and scores.

import type { Pellets, Scores, Snapshot, You } from "../gen/arena/v1/arena_pb";

/** A position or a direction, in units of the plane. y grows upwards. */
export interface Point {
  x: number;
  y: number;
}

/** An avatar as it is shown. */
export interface Avatar extends Point {
  id: number;
  name: string;
  score: number;
  isAgent: boolean;
  isLinkdead: boolean;
}

/** A position of an avatar, and its tick and time. */
interface Sample extends Point {
  tick: number;
  atMs: number;
}

interface Track {
  samples: Sample[];
  flags: number;
}

/** The newest position of an avatar. */
export interface Newest extends Point {
  atMs: number;
  /** The low five bits of the tick of the newest input that was applied. */
  inputBits: number;
}

/** The state of the plane. */
export class World {
  readonly #clock = new TickClock();
  #tracks = new Map<number, Track>();
  #names = new Map<number, { name: string; score: number; session: bigint }>();
  /** The newest snapshot: its tick, its chunks so far, and their avatars. */
  #round = { tick: -1, chunks: new Set<number>(), seen: new Set<number>() };

  pellets = new Map<number, Point>();
  /** The id of the client's own avatar. 0: not known yet. */
  me = 0;
  size: Point = { x: 100, y: 100 };

  /** Clears the state for a new session or a resync. */
  clear(): void {
    this.#clock.clear();
    this.#tracks.clear();
    this.#names.clear();
    this.pellets.clear();
    this.#round = { tick: -1, chunks: new Set(), seen: new Set() };
    this.me = 0;
  }

  takeYou(you: You): void {
    this.me = you.id;
    this.size = { x: you.width, y: you.height };
  }

  takeScores({ scores }: Scores): void {
    for (const { id, name, score, session, gone } of scores) {
      if (gone) {
        this.#names.delete(id);
        this.#tracks.delete(id);
      } else {
        this.#names.set(id, { name, score, session });
      }
    }
  }

  takePellets({ id, x, y }: Pellets): void {
    id.forEach((pellet, index) => {
      this.pellets.set(pellet, { x: (x[index] ?? 0) / 100, y: (y[index] ?? 0) / 100 });
    });
  }

  /** Applies a chunk. Chunks may be late, duplicated, reordered or lost. */
  takeSnapshot(snapshot: Snapshot, nowMs: number): void {
    const tick = Number(snapshot.tick);
    const atMs = this.#clock.timeOf(tick, nowMs);
    snapshot.id.forEach((id, index) => {
      const track = this.#tracks.get(id) ?? { samples: [], flags: 0 };
      const last = track.samples.at(-1);
      if (last !== undefined && last.tick >= tick) {
        return;
      }
      this.#tracks.set(id, track);
      track.flags = snapshot.flags[index] ?? 0;
      track.samples.push({ tick, atMs, x: (snapshot.x[index] ?? 0) / 100, y: (snapshot.y[index] ?? 0) / 100 });
      if (track.samples.length > SAMPLES_MAX) {
        track.samples.shift();
      }
    });
    this.#sweep(snapshot, tick);
  }

  /** When all chunks of a tick have arrived, removes the avatars that are not in them. */
  #sweep({ chunk, chunks, id }: Snapshot, tick: number): void {
    if (tick < this.#round.tick) {
      return;
    }
    if (tick > this.#round.tick) {
      this.#round = { tick, chunks: new Set(), seen: new Set() };
    }
    this.#round.chunks.add(chunk);
    id.forEach((seen) => this.#round.seen.add(seen));
    if (this.#round.chunks.size === chunks) {
      for (const known of this.#tracks.keys()) {
        if (!this.#round.seen.has(known)) {
          this.#tracks.delete(known);
        }
      }
    }
  }

  /** Returns the newest position of an avatar. */
  newest(id: number): Newest | undefined {
    const track = this.#tracks.get(id);
    const last = track?.samples.at(-1);
    return track && last && { ...last, inputBits: (track.flags >> INPUT_SHIFT) & INPUT_MASK };
  }

  /** Returns all avatars at a time shortly before now, at which their positions can be interpolated. */
  avatars(nowMs: number): Avatar[] {
    return Array.from(this.#tracks, ([id, { samples, flags }]) => ({
      id,
      ...between(samples, nowMs - DELAY_MS),
      name: this.#names.get(id)?.name ?? "",
      score: this.#names.get(id)?.score ?? 0,
      isAgent: (flags & 1) !== 0,
      isLinkdead: (flags & 2) !== 0,
    }));
  }

  /** Returns the names and scores of all avatars, best first. */
  ranking(): { id: number; name: string; score: number }[] {
    const all = Array.from(this.#names, ([id, { name, score }]) => ({ id, name, score }));
    return all.sort((a, b) => b.score - a.score || a.id - b.id);
  }
}

/** Returns the position at a time, between two samples. Shortly after the last sample the position is extrapolated. */
function between(samples: Sample[], atMs: number): Point {
  const after = samples.findIndex((sample) => sample.atMs >= atMs);
  const to = samples[after === -1 ? samples.length - 1 : after];
  const from = samples[after === -1 ? samples.length - 2 : after - 1];
  if (to === undefined) {
    return { x: 0, y: 0 };
  }
  if (from === undefined || to.atMs <= from.atMs) {
    return { x: to.x, y: to.y };
  }
  const share = (Math.min(atMs, to.atMs + BEYOND_MAX_MS) - from.atMs) / (to.atMs - from.atMs);
  return { x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share };
}

/**
 * Maps the ticks of a zone to the clock of the page without the jitter of arrivals. The period of ticks is learned,
 * because the zone of a busy server ticks at half its rate.
 */
export class TickClock {
  #last: { tick: number; atMs: number } | undefined;
  #periodMs = 50;

  clear(): void {
    this.#last = undefined;
  }

  /** Returns the time of a tick whose snapshot arrives at `nowMs`. */
  timeOf(tick: number, nowMs: number): number {
    const last = this.#last;
    if (last === undefined) {
      this.#last = { tick, atMs: nowMs };
      return nowMs;
    }
    const ticks = tick - last.tick;
    const expected = last.atMs + ticks * this.#periodMs;
    if (ticks <= 0) {
      return expected;
    }
    const error = nowMs - expected;
    const isOff = Math.abs(error) > OFF_MS;
    const atMs = isOff ? nowMs : expected + error * TIME_GAIN;
    this.#periodMs = isOff ? this.#periodMs : clamp(this.#periodMs + (error / ticks) * PERIOD_GAIN, 4, 500);
    this.#last = { tick, atMs };
    return atMs;
  }
}

export function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

/** The delay at which avatars are shown, in milliseconds: two ticks at 20 Hz, so that one snapshot may be lost. */
const DELAY_MS = 100;
/** How long the position of an avatar is extrapolated, in milliseconds. */
const BEYOND_MAX_MS = 100;
/** The number of samples for each avatar: one second. */
const SAMPLES_MAX = 20;
/** An error above this resets the clock, in milliseconds. */
const OFF_MS = 250;
/** The weights of an error for the time and for the period. */
const TIME_GAIN = 0.1;
const PERIOD_GAIN = 0.02;
/** The position of the newest input in the flags. */
const INPUT_SHIFT = 2;
export const INPUT_MASK = 0b1_1111;

// Reads the player's controls: keys, and a finger or mouse that points to where the avatar should go.

import type { Point } from "./world";

/** The state of the keys and the pointer. */
export class Controls {
  readonly #keys = new Set<string>();
  #pointer: { x: number; y: number } | undefined;

  constructor(canvas: HTMLCanvasElement) {
    addEventListener("keydown", (event) => {
      if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) {
        return;
      }
      if (event.code in DIRECTIONS && !event.ctrlKey && !event.metaKey && !event.altKey) {
        this.#keys.add(event.code);
        event.preventDefault();
      }
    });
    addEventListener("keyup", (event) => this.#keys.delete(event.code));
    addEventListener("blur", () => this.release());
    const follow = (event: PointerEvent) => {
      const { left, top } = canvas.getBoundingClientRect();
      this.#pointer = { x: event.clientX - left, y: event.clientY - top };
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      follow(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.#pointer !== undefined) {
        follow(event);
      }
    });
    for (const end of ["pointerup", "pointercancel"] as const) {
      canvas.addEventListener(end, () => (this.#pointer = undefined));
    }
  }

  /** Releases all keys and the pointer. */
  release(): void {
    this.#keys.clear();
    this.#pointer = undefined;
  }

  /** Returns the direction to move, a vector of length 1 at most. `place` maps a point of the canvas to the plane. */
  wish(me: Point | undefined, place: (canvas: Point) => Point): Point {
    if (this.#pointer !== undefined && me !== undefined) {
      const goal = place(this.#pointer);
      const way = { x: goal.x - me.x, y: goal.y - me.y };
      const length = Math.hypot(way.x, way.y);
      return length < NEAR ? STILL : { x: way.x / length, y: way.y / length };
    }
    let wish = STILL;
    for (const key of this.#keys) {
      const [x, y] = DIRECTIONS[key] ?? [0, 0];
      wish = { x: wish.x + x, y: wish.y + y };
    }
    const length = Math.max(1, Math.hypot(wish.x, wish.y));
    return { x: wish.x / length, y: wish.y / length };
  }
}

export const STILL: Point = { x: 0, y: 0 };

const DIRECTIONS: Record<string, readonly [number, number]> = {
  KeyW: [0, 1],
  ArrowUp: [0, 1],
  KeyS: [0, -1],
  ArrowDown: [0, -1],
  KeyA: [-1, 0],
  ArrowLeft: [-1, 0],
  KeyD: [1, 0],
  ArrowRight: [1, 0],
};
/** An avatar stands still if it is nearer than this to the pointer, in units. */
const NEAR = 0.6;

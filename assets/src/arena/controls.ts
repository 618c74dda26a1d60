// What the player wants: keys, or a finger or mouse that shows where to go.

import type { Point } from "./world";

/** Reads keys and the pointer. */
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

  /** Lets go of everything. */
  release(): void {
    this.#keys.clear();
    this.#pointer = undefined;
  }

  /** The wish to move, at most 1 long. `place` says where in the plane a point of the canvas is. */
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
/** Nearer than this to where it is shown to go, in units, an avatar stands. */
const NEAR = 0.6;

// Draws the game on a canvas: the meadow, the lights with their trails, the moths, and the rings of cheers.

import type { Cheered, Dot, Scene } from "./gen/game_pb";

/** The time by which the picture lags behind the newest scene, so that dots can be drawn between two scenes. */
const DELAY_MS = 100;
/** The time for which a ring grows, and its final radius in units of the game. */
const RING_MS = 1_400;
const RING_RADIUS = 16;
/** The number of points of a trail. */
const TRAIL = 26;

interface Point {
  x: number;
  y: number;
}

interface Ring extends Point {
  session: bigint;
  atMs: number;
}

export class View {
  readonly #canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D;
  /** The meadow without lights, moths and rings. It is drawn again when the size of the page changes. */
  #ground: HTMLCanvasElement | undefined;
  #scenes: { scene: Scene; atMs: number }[] = [];
  #trails = new Map<bigint, Point[]>();
  #rings: Ring[] = [];
  #own: bigint | undefined;
  #pulsedAtMs = -Infinity;
  #radius = 50;

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d") as CanvasRenderingContext2D;
    addEventListener("resize", () => (this.#ground = undefined));
  }

  /** Takes a new scene. `own` is the session of this player. */
  show(scene: Scene, own: bigint | undefined): void {
    this.#own = own;
    this.#radius = scene.radius;
    this.#scenes.push({ scene, atMs: performance.now() });
    this.#scenes.splice(0, this.#scenes.length - 8);
  }

  /** Shows a cheer. */
  ring({ session, x, y }: Cheered): void {
    this.#rings.push({ session, x, y, atMs: performance.now() });
  }

  /** Shows that the player has cheered. The page calls this before the server answers. */
  pulse(): void {
    this.#pulsedAtMs = performance.now();
  }

  /** Returns the position in the game at a point of the page. */
  place(clientX: number, clientY: number): Point {
    const { middle, scale } = this.#frame();
    return { x: (clientX - middle.x) / scale, y: (middle.y - clientY) / scale };
  }

  /** Returns where the player is. */
  me(): Point | undefined {
    const me = this.#scenes.at(-1)?.scene.dots.find(({ session }) => session === this.#own);
    return me && { x: me.x, y: me.y };
  }

  counts(): string {
    const dots = this.#scenes.at(-1)?.scene.dots ?? [];
    const lights = dots.filter(({ moth }) => !moth).length;
    return `${lights} ${lights === 1 ? "light" : "lights"}, ${dots.length - lights} moths`;
  }

  draw(nowMs: number): void {
    const { width, height, ratio } = this.#frame();
    const context = this.#context;
    if (this.#ground === undefined || this.#canvas.width !== Math.round(width * ratio)) {
      this.#canvas.width = Math.round(width * ratio);
      this.#canvas.height = Math.round(height * ratio);
      this.#ground = this.#paintGround();
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalAlpha = 1;
    context.globalCompositeOperation = "source-over";
    context.drawImage(this.#ground, 0, 0);
    this.#toGame(context);
    const dots = this.#dots(nowMs - DELAY_MS);
    for (const dot of dots.filter(({ moth }) => moth)) {
      this.#drawMoth(dot, nowMs);
    }
    context.globalCompositeOperation = "lighter";
    this.#drawRings(nowMs);
    for (const dot of dots.filter(({ moth }) => !moth)) {
      this.#drawLight(dot, nowMs);
    }
  }

  /** The size of the page, and where the meadow is on it. */
  #frame() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const bar = height < LOW_PX ? 0 : BAR_PX;
    const scale = (Math.min(width, height - 2 * bar) / 2 - 12) / this.#radius;
    return { width, height, scale, ratio: devicePixelRatio, middle: { x: width / 2, y: height / 2 } };
  }

  /** Makes one unit of the game the unit of the context. The y axis points up. */
  #toGame(context: CanvasRenderingContext2D): void {
    const { scale, ratio, middle } = this.#frame();
    context.setTransform(ratio * scale, 0, 0, -ratio * scale, ratio * middle.x, ratio * middle.y);
  }

  /** Returns all dots at a time. Between two scenes, each dot is on the line between its two positions. */
  #dots(atMs: number): Dot[] {
    const after = this.#scenes.findIndex((scene) => scene.atMs > atMs);
    const newest = this.#scenes.at(-1);
    const [from, to] = [this.#scenes[after - 1], this.#scenes[after]];
    const dots = from === undefined || to === undefined ? newest?.scene.dots ?? [] : between(from, to, atMs);
    const known = new Set(dots.map(({ session }) => session));
    for (const session of this.#trails.keys()) {
      if (!known.has(session)) {
        this.#trails.delete(session);
      }
    }
    return dots;
  }

  #drawLight(dot: Dot, nowMs: number): void {
    const context = this.#context;
    const isMine = dot.session === this.#own;
    const hue = hueOf(dot.session);
    const [light, glow] = dot.away ? ["hsl(0 0% 55%)", "hsl(0 0% 40% / "] : [`hsl(${hue} 100% 88%)`, `hsl(${hue} 95% 60% / `];
    const trail = this.#trails.get(dot.session) ?? [];
    trail.push({ x: dot.x, y: dot.y });
    trail.splice(0, trail.length - TRAIL);
    this.#trails.set(dot.session, trail);
    context.lineCap = "round";
    for (let at = 1; at < trail.length; at++) {
      const [a, b] = [trail[at - 1] as Point, trail[at] as Point];
      context.strokeStyle = `${glow}${(0.35 * at) / TRAIL})`;
      context.lineWidth = (1.4 * at) / TRAIL;
      line(context, a, b);
    }
    const since = nowMs - this.#pulsedAtMs;
    const pulse = isMine && since < 300 ? Math.sin((since / 300) * Math.PI) : 0;
    const breath = dot.away ? 0 : 0.6 * Math.sin(nowMs / 500 + hue);
    const reach = (dot.away ? 4 : 11) + breath + 5 * pulse;
    const gradient = context.createRadialGradient(dot.x, dot.y, 0, dot.x, dot.y, reach);
    gradient.addColorStop(0, `${glow}0.7)`);
    gradient.addColorStop(0.2, `${glow}0.28)`);
    gradient.addColorStop(0.5, `${glow}0.09)`);
    gradient.addColorStop(1, `${glow}0)`);
    context.fillStyle = gradient;
    disc(context, dot, reach);
    context.fillStyle = light;
    disc(context, dot, 1 + 0.5 * pulse);
    if (isMine) {
      context.strokeStyle = `${glow}0.9)`;
      context.lineWidth = 0.25;
      circle(context, dot, 2.4 + pulse);
    }
  }

  #drawMoth(dot: Dot, nowMs: number): void {
    const context = this.#context;
    const trail = this.#trails.get(dot.session) ?? [];
    trail.push({ x: dot.x, y: dot.y });
    trail.splice(0, trail.length - 6);
    this.#trails.set(dot.session, trail);
    const old = trail[0] as Point;
    const flap = 0.35 + 0.65 * Math.abs(Math.sin(nowMs / 70 + hueOf(dot.session)));
    context.save();
    context.translate(dot.x, dot.y);
    context.rotate(Math.atan2(dot.y - old.y, dot.x - old.x) - Math.PI / 2);
    context.fillStyle = "hsl(42 30% 78% / 0.8)";
    for (const side of [-1, 1]) {
      context.beginPath();
      context.ellipse(side * 0.95 * flap, 0.35, 1.1 * flap, 0.75, side * 0.5, 0, 2 * Math.PI);
      context.ellipse(side * 0.7 * flap, -0.6, 0.75 * flap, 0.5, side * -0.5, 0, 2 * Math.PI);
      context.fill();
    }
    context.fillStyle = "hsl(35 25% 45%)";
    context.beginPath();
    context.ellipse(0, 0, 0.22, 0.9, 0, 0, 2 * Math.PI);
    context.fill();
    context.restore();
  }

  #drawRings(nowMs: number): void {
    const context = this.#context;
    this.#rings = this.#rings.filter(({ atMs }) => nowMs - atMs < RING_MS);
    for (const ring of this.#rings) {
      const age = Math.max(0, nowMs - ring.atMs) / RING_MS;
      const reach = 1 - (1 - age) ** 3;
      for (const [late, width] of [[0, 0.7], [0.25, 0.35]] as const) {
        context.strokeStyle = `hsl(${hueOf(ring.session)} 95% 70% / ${0.8 * (1 - age)})`;
        context.lineWidth = width;
        circle(context, ring, 2 + Math.max(0, reach - late) * RING_RADIUS);
      }
    }
  }

  /** Paints the meadow: grass in a round clearing. The same random numbers give the same meadow each time. */
  #paintGround(): HTMLCanvasElement {
    const ground = document.createElement("canvas");
    [ground.width, ground.height] = [this.#canvas.width, this.#canvas.height];
    const context = ground.getContext("2d") as CanvasRenderingContext2D;
    context.fillStyle = "#060b12";
    context.fillRect(0, 0, ground.width, ground.height);
    this.#toGame(context);
    const radius = this.#radius;
    const random = randomNumbers(7);
    for (let star = 0; star < 260; star++) {
      const [angle, distance] = [random() * 2 * Math.PI, radius * (1.06 + 2 * random())];
      context.fillStyle = `hsl(${200 + 40 * random()} 60% 85% / ${0.1 + 0.5 * random() ** 3})`;
      disc(context, { x: Math.cos(angle) * distance, y: Math.sin(angle) * distance }, 0.08 + 0.2 * random());
    }
    const clearing = context.createRadialGradient(0, 0, radius * 0.1, 0, 0, radius * 1.06);
    clearing.addColorStop(0, "#17392f");
    clearing.addColorStop(0.65, "#0f2a26");
    clearing.addColorStop(0.94, "#0a1d1e");
    clearing.addColorStop(1, "#0a1d1e00");
    context.fillStyle = clearing;
    disc(context, { x: 0, y: 0 }, radius * 1.06);
    context.lineCap = "round";
    for (let blade = 0; blade < 2_200; blade++) {
      const [angle, distance] = [random() * 2 * Math.PI, radius * Math.sqrt(random()) * 1.03];
      const foot = { x: Math.cos(angle) * distance, y: Math.sin(angle) * distance };
      const tip = { x: foot.x + 0.9 * (random() - 0.5), y: foot.y + 0.8 + 1.4 * random() };
      context.strokeStyle = `hsl(${135 + 35 * random()} ${30 + 20 * random()}% ${17 + 15 * random()}% / 0.6)`;
      context.lineWidth = 0.14 + 0.16 * random();
      line(context, foot, tip);
    }
    for (let flower = 0; flower < 70; flower++) {
      const [angle, distance] = [random() * 2 * Math.PI, radius * Math.sqrt(random()) * 0.98];
      context.fillStyle = `hsl(${[48, 285, 205][flower % 3]} 60% 72% / 0.4)`;
      disc(context, { x: Math.cos(angle) * distance, y: Math.sin(angle) * distance }, 0.18 + 0.15 * random());
    }
    return ground;
  }
}

/** Returns the dots of the later scene, each at its position between the two scenes. */
function between(from: { scene: Scene; atMs: number }, to: { scene: Scene; atMs: number }, atMs: number): Dot[] {
  const part = (atMs - from.atMs) / Math.max(1, to.atMs - from.atMs);
  const before = new Map(from.scene.dots.map((dot) => [dot.session, dot]));
  return to.scene.dots.map((dot) => {
    const { x, y } = before.get(dot.session) ?? dot;
    return { ...dot, x: x + (dot.x - x) * part, y: y + (dot.y - y) * part };
  });
}

/** Returns the colour of a player, which is the same on all pages. */
function hueOf(session: bigint): number {
  return Number(session % 36n) * 10;
}

function disc(context: CanvasRenderingContext2D, { x, y }: Point, radius: number): void {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function circle(context: CanvasRenderingContext2D, { x, y }: Point, radius: number): void {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.stroke();
}

function line(context: CanvasRenderingContext2D, from: Point, to: Point): void {
  context.beginPath();
  context.moveTo(from.x, from.y);
  context.lineTo(to.x, to.y);
  context.stroke();
}

/** Returns a generator of random numbers from 0 to 1 (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The height of the bars above and below the meadow, in pixels. */
const BAR_PX = 52;
/** On a page lower than this, in pixels, the texts of the bars are beside the meadow. */
const LOW_PX = 500;

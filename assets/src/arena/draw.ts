// Draws the plane, its pellets and its avatars on the canvas.

import type { Avatar, Point, World } from "./world";

/** The view of the plane. It is as large as the canvas allows. */
export class View {
  readonly #context: CanvasRenderingContext2D;
  /** Pixels of the page for each unit of the plane. */
  #scale = 1;
  #size: Point = { x: 100, y: 100 };

  constructor(private readonly canvas: HTMLCanvasElement) {
    const context = canvas.getContext("2d");
    if (context === null) {
      throw new Error("this browser does not support canvas");
    }
    this.#context = context;
  }

  /** Maps a point of the canvas to the plane. */
  readonly place = ({ x, y }: Point): Point => ({ x: x / this.#scale, y: this.#size.y - y / this.#scale });

  /** Draws the world. `me` is the predicted position of the client's own avatar. */
  draw(world: World, me: Point | undefined, nowMs: number, isAway: boolean): void {
    this.#fit(world.size);
    const context = this.#context;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.#grid();
    for (const pellet of world.pellets.values()) {
      this.#dot(pellet, PELLET_RADIUS, PELLET);
    }
    const avatars = world.avatars(nowMs);
    const others = avatars.filter(({ id }) => id !== world.me);
    const agents = others.filter(({ isAgent }) => isAgent).sort((a, b) => b.score - a.score);
    // Agents crowd around pellets. Of agents that are near each other, only the best one gets a label.
    const named: Point[] = [];
    for (const agent of agents) {
      const isCrowded = named.some((other) => Math.hypot(other.x - agent.x, other.y - agent.y) < CROWD);
      this.#avatar(agent, AGENT, !isCrowded);
      if (!isCrowded) {
        named.push(agent);
      }
    }
    for (const player of others.filter(({ isAgent }) => !isAgent)) {
      this.#avatar(player, hue(player.id), true);
    }
    const own = avatars.find(({ id }) => id === world.me);
    if (own !== undefined && me !== undefined) {
      this.#me({ ...own, ...me, isLinkdead: isAway }, nowMs);
    }
  }

  /** Fits the resolution of the canvas to the page and the screen. */
  #fit(size: Point): void {
    const { canvas } = this;
    const ratio = globalThis.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round((canvas.clientWidth * ratio * size.y) / size.x);
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    this.#size = size;
    this.#scale = canvas.clientWidth / size.x;
    this.#context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  #grid(): void {
    const context = this.#context;
    context.strokeStyle = GRID;
    context.lineWidth = 1;
    context.beginPath();
    for (let line = GRID_EVERY; line < this.#size.x; line += GRID_EVERY) {
      context.moveTo(line * this.#scale, 0);
      context.lineTo(line * this.#scale, this.#size.y * this.#scale);
    }
    for (let line = GRID_EVERY; line < this.#size.y; line += GRID_EVERY) {
      context.moveTo(0, line * this.#scale);
      context.lineTo(this.#size.x * this.#scale, line * this.#scale);
    }
    context.stroke();
  }

  #at({ x, y }: Point): [number, number] {
    return [x * this.#scale, (this.#size.y - y) * this.#scale];
  }

  #dot(place: Point, radius: number, colour: string): void {
    const context = this.#context;
    context.fillStyle = colour;
    context.beginPath();
    context.arc(...this.#at(place), Math.max(radius * this.#scale, 2), 0, 2 * Math.PI);
    context.fill();
  }

  #ring(place: Point, radius: number, colour: string, dash: number[]): void {
    const context = this.#context;
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.setLineDash(dash);
    context.beginPath();
    context.arc(...this.#at(place), Math.max(radius * this.#scale, 4), 0, 2 * Math.PI);
    context.stroke();
    context.setLineDash([]);
  }

  #avatar(avatar: Avatar, colour: string, isNamed: boolean): void {
    const radius = avatar.isAgent ? AGENT_RADIUS : PLAYER_RADIUS;
    if (avatar.isLinkdead) {
      this.#dot(avatar, radius, LINKDEAD);
      this.#ring(avatar, radius + 0.7, LINKDEAD_RING, [3, 3]);
    } else {
      this.#dot(avatar, radius, colour);
    }
    if (!isNamed) {
      return;
    }
    // On a phone the names of agents would hide the plane.
    const known = avatar.isAgent && this.#scale < SMALL_SCALE ? "" : avatar.name;
    const name = avatar.isLinkdead ? `${known} · no link` : known;
    this.#label(avatar, name, avatar.score, radius, avatar.isAgent || avatar.isLinkdead ? DIM : BRIGHT);
  }

  #me(avatar: Avatar, nowMs: number): void {
    const pulse = 0.25 * Math.sin(nowMs / 300);
    this.#dot(avatar, PLAYER_RADIUS, avatar.isLinkdead ? LINKDEAD : ME);
    const dash = avatar.isLinkdead ? [3, 3] : [];
    this.#ring(avatar, PLAYER_RADIUS + 0.8 + pulse, avatar.isLinkdead ? LINKDEAD_RING : ME_RING, dash);
    this.#label(avatar, avatar.name, avatar.score, PLAYER_RADIUS, BRIGHT);
  }

  #label(place: Point, name: string, score: number, radius: number, colour: string): void {
    const context = this.#context;
    const [x, y] = this.#at(place);
    const below = y < LABEL_ROOM;
    const away = Math.max(radius * this.#scale, 4) + 6;
    context.font = `${colour === BRIGHT && this.#scale >= SMALL_SCALE ? 13 : 10}px system-ui, sans-serif`;
    context.textAlign = x < LABEL_SIDE ? "left" : x > this.canvas.clientWidth - LABEL_SIDE ? "right" : "center";
    context.textBaseline = below ? "top" : "bottom";
    const text = name === "" ? `${score}` : `${name}  ${score}`;
    context.lineWidth = 3;
    context.strokeStyle = BACKGROUND;
    context.strokeText(text, x, below ? y + away : y - away);
    context.fillStyle = colour;
    context.fillText(text, x, below ? y + away : y - away);
  }
}

/** Returns the colour of another player, from blue over red to orange. Green is the player, and yellow are pellets. */
function hue(id: number): string {
  return `hsl(${195 + (Math.round(id * 77.7) % 195)} 75% 66%)`;
}

const PLAYER_RADIUS = 1.5;
const AGENT_RADIUS = 1;
const PELLET_RADIUS = 0.45;
/** Units between the lines of the grid. */
const GRID_EVERY = 10;
/** Agents that are nearer to each other than this have one label, in units. */
const CROWD = 6;
/** The pixels that a label needs above its avatar and to each side. */
const LABEL_ROOM = 30;
const LABEL_SIDE = 50;
/** The scale in pixels for each unit below which labels are smaller, as on a phone. */
const SMALL_SCALE = 5;

const BACKGROUND = "#0c1118";
const GRID = "#182230";
const PELLET = "#f2c14e";
const AGENT = "#54718f";
const LINKDEAD = "#5b6068";
const LINKDEAD_RING = "#868c96";
const ME = "#4fd1a5";
const ME_RING = "#a9f0d8";
const BRIGHT = "#e6edf3";
const DIM = "#7d8a99";

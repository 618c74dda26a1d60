// A scripted server for tests, on links without a network.

import { type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import {
  AckSchema,
  type Hello,
  HelloSchema,
  type Welcome,
  WelcomeSchema,
} from "../../gen/waystation/v1/link_pb";
import { Client } from "../client";
import type { Config } from "../config";
import type { Transports } from "../discovery";
import type { ClientEvent } from "../event";
import type { TokenStore } from "../store";
import type { Link, LinkEvents, Transport, TransportName } from "../transport";
import { type Frame, type Lane, decode, encode, idOf, laneOf, parse } from "../wire";

/** The server's end of one link. */
export class ServerLink {
  readonly sent: Frame[] = [];
  isClosed = false;
  /** False while the link refuses frames. */
  hasRoom = true;

  constructor(
    readonly name: TransportName,
    readonly events: LinkEvents,
  ) {}

  /** Returns the messages of this type that the client has sent on this link. */
  got<T extends DescMessage>(schema: T): MessageShape<T>[] {
    const frames = this.sent.filter(({ id }) => id === idOf(schema));
    return frames.map((frame) => decode(schema, frame) as MessageShape<T>);
  }

  /** Sends a message to the client. */
  say<T extends DescMessage>(schema: T, message: MessageInitShape<T>, lane?: Lane): void {
    this.events.onFrame(lane ?? laneOf(idOf(schema)), encode(schema, message));
  }

  /** Opens the link and answers the Hello with Welcome. Returns the Hello. */
  accept(welcome: Partial<Omit<Welcome, "$typeName" | "$unknown">> = {}): Hello | undefined {
    this.events.onOpen();
    const hello = this.got(HelloSchema).at(-1);
    this.say(WelcomeSchema, { session: 7n, token: new Uint8Array([1]), ...welcome });
    return hello;
  }

  /** Returns the count in the client's last Ack. */
  acked(): bigint | undefined {
    return this.got(AckSchema).at(-1)?.received;
  }
}

/** A client, and all links that it has dialled. */
export class Scene implements Transports, TokenStore {
  readonly links: ServerLink[] = [];
  readonly events: ClientEvent[] = [];
  /** The changes of the stored token and the frames that were sent, in order. */
  readonly history: string[] = [];
  /** How many times the client called `failed`. */
  failedCount = 0;
  /** The transports that the server offers, best first. */
  offer: TransportName[] = ["websocket"];
  /** False while discovery fails. */
  isFound = true;
  /** The tickets that the server gives, one for each answer of discovery. */
  tickets: string[] = [];
  #ticket: string | undefined;
  nowMs = 0;
  token: Uint8Array | undefined;
  readonly client: Client;

  constructor(config: Partial<Config> = {}, token?: Uint8Array) {
    this.token = token;
    const now = () => this.nowMs;
    this.client = new Client({ transports: this, store: this, config: { random: () => 0.5, ...config }, now });
    this.client.onEvent = (event) => this.events.push(event);
  }

  offered(): Promise<Transport[]> {
    this.#ticket ??= this.tickets.shift();
    const transports = this.offer.map((name) => ({ name, open: (events: LinkEvents) => this.#open(name, events) }));
    return this.isFound ? Promise.resolve(transports) : Promise.reject(new Error("not found"));
  }

  failed(): void {
    this.failedCount += 1;
    this.#ticket = undefined;
  }

  takeTicket(): string | undefined {
    const ticket = this.#ticket;
    this.#ticket = undefined;
    return ticket;
  }

  #open(name: TransportName, events: LinkEvents): Link {
    const link = new ServerLink(name, events);
    this.links.push(link);
    return {
      send: (bytes) => {
        const frame = parse(bytes);
        if (link.isClosed || !link.hasRoom || frame === undefined) {
          return false;
        }
        link.sent.push(frame);
        this.history.push(`sent ${frame.id}`);
        return true;
      },
      close: () => (link.isClosed = true),
    };
  }

  load(): Uint8Array | undefined {
    return this.token;
  }

  save(token: Uint8Array): void {
    this.token = token;
    this.history.push(`token ${token.join()}`);
  }

  clear(): void {
    this.token = undefined;
    this.history.push("token gone");
  }

  /** Advances the time in steps of 50 ms. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 50) {
      this.nowMs += Math.min(left, 50);
      this.client.update();
      await settled();
    }
  }

  /** Returns the links of a transport. */
  over(name: TransportName): ServerLink[] {
    return this.links.filter((link) => link.name === name);
  }

  /** Advances the time until the client has dialled this many links. Returns the last one of them. */
  async dialled(count: number): Promise<ServerLink> {
    for (let looks = 0; this.links.length < count && looks < 1_000; looks += 1) {
      await this.pass(50);
    }
    const link = this.links[count - 1];
    if (link === undefined) {
      throw new Error(`only ${this.links.length} links were dialled`);
    }
    return link;
  }

  /** Opens a session. Returns its link. */
  async connected(): Promise<ServerLink> {
    const link = await this.dialled(1);
    link.accept();
    return link;
  }

  /** Returns the types of all events so far. */
  types(): string[] {
    return this.events.map(({ type }) => type);
  }
}

/** Waits until all promises that need no timer are settled. */
export const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

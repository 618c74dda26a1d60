// A client of a Waystation server: one session that outlives its links.
//
// The client opens links, sends Hello, counts and acknowledges frames, answers Beacons, and resumes the session by
// itself. It does all due work in each event of a link, not only in timers: a browser delays the timers of a hidden
// page. So frames are answered when they arrive, and the next link is dialled in the event that ends the last one.
//
//     const transports = new DiscoveredTransports("v1/connect");
//     const client = new Client({ transports, store: new SessionStorageStore("game") });
//     client.onEvent = (event) => {
//       if (event.type === "connected") client.join("arena");
//       if (event.type === "message") { const joined = decode(JoinedSchema, event.frame); … }
//     };
//     client.start();

import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { JoinSchema, PartSchema } from "../gen/waystation/v1/session_pb";
import { type Config, DEFAULTS } from "./config";
import { Core } from "./core";
import { Dialler } from "./dialler";
import type { Transports } from "./discovery";
import type { ClientEvent, ClientState, SendError } from "./event";
import type { Counts } from "./session";
import type { TokenStore } from "./store";
import { Ticker } from "./ticker";
import type { TransportName } from "./transport";

/** The parts of a client. */
export interface ClientOptions {
  transports: Transports;
  /** Stores the resume token, so that a reloaded page resumes. Without a store it begins a new session. */
  store?: TokenStore;
  config?: Partial<Config>;
  /** Milliseconds on a clock that never goes back. Default: `performance.now`. */
  now?: () => number;
}

/** A client with at most one session. */
export class Client {
  readonly #core: Core;
  readonly #dialler: Dialler;
  readonly #store: TokenStore | undefined;
  readonly #now: () => number;
  /** The token that this client has saved to the store or loaded from it. */
  #kept: Uint8Array | undefined;
  /** True when the store has decided that no other page uses its token. The client does not dial before. */
  #isClaimed = false;
  #isSettling = false;
  #request = 0;
  #ticker: Ticker | undefined;
  /** The time of the last `advance`. */
  #then: number;

  /** Receives the events, in order. */
  onEvent: (event: ClientEvent) => void = () => {};

  constructor({ transports, store, config, now }: ClientOptions) {
    const whole = { ...DEFAULTS, ...config };
    this.#store = store;
    this.#now = now ?? (() => performance.now());
    this.#then = this.#now();
    const proof = { take: () => transports.takeTicket?.() ?? "", renew: () => transports.failed() };
    this.#core = new Core(whole, proof);
    this.#dialler = new Dialler(transports, this.#core, whole, this.#now, (act) => this.#heard(act));
    if (store?.claim === undefined) {
      this.#claimed();
    } else {
      const claimed = () => {
        this.#claimed();
        this.update();
      };
      store.claim().then(claimed, claimed);
    }
  }

  /** Loads the token of the store, which no other page uses. */
  #claimed(): void {
    this.#isClaimed = true;
    this.#kept = this.#store?.load();
    if (this.#kept !== undefined) {
      this.#core.adopt(this.#kept);
    }
  }

  /** Calls `update` by a timer until the client has stopped. */
  start(): void {
    this.#ticker ??= new Ticker(
      () => this.update(),
      () => this.hurry(),
    );
    this.update();
  }

  /** Advances the client to the present time. After `start` a timer calls it; a test calls it itself. */
  update(): void {
    this.#heard(() => this.#core.check());
  }

  /** Handles something that has arrived. First it advances the time, which may end the link that it came on. */
  #heard(act: () => void): void {
    const now = this.#now();
    this.#core.advance(now - this.#then);
    this.#then = now;
    this.#release();
    act();
    this.#settle();
  }

  /** Emits events, closes links that are over, dials, and sends what is due. */
  #settle(): void {
    if (this.#isSettling) {
      return;
    }
    this.#isSettling = true;
    do {
      this.#release();
      for (const event of this.#core.drain()) {
        this.#keepToken(event);
        this.onEvent(event);
      }
      if (this.#isClaimed) {
        this.#dialler.update();
      }
      this.#core.transmit(this.#dialler.send);
    } while (this.#core.hasNews());
    this.#isSettling = false;
    if (this.#core.is("stopped")) {
      this.#ticker?.stop();
      this.#ticker = undefined;
    }
  }

  #release(): void {
    if (this.#core.takeRelease()) {
      this.#dialler.letGo();
    }
  }

  /** Keeps the store up to date. Does not clear a token that another client has saved since. */
  #keepToken(event: ClientEvent): void {
    const store = this.#store;
    if ((event.type === "connected" || event.type === "resumed") && this.#core.token !== undefined) {
      this.#kept = this.#core.token;
      store?.save(this.#kept);
    } else if (event.type === "session-lost" || event.type === "closed") {
      if (store?.load()?.join() === this.#kept?.join()) {
        store?.clear();
      }
      this.#kept = undefined;
    }
  }

  /** Sends a message on its lane. Returns the reason if the message was refused. */
  send<T extends DescMessage>(schema: T, message: MessageInitShape<T>): SendError | undefined {
    const error = this.#core.send(schema, message, this.#dialler.send);
    this.#core.transmit(this.#dialler.send);
    return error;
  }

  /** Returns the request id of the next Join or Part, never 0. */
  #nextRequest(): number {
    this.#request = this.#request >= 0xffff_ffff ? 1 : this.#request + 1;
    return this.#request;
  }

  /** Sends a Join and returns its request id. The server answers with Joined or Refused. */
  join(zone: string, payload: Uint8Array = new Uint8Array()): number {
    const request = this.#nextRequest();
    this.send(JoinSchema, { request, zone, payload });
    return request;
  }

  /** Sends a Part and returns its request id. The server answers with Parted or Refused. */
  part(payload: Uint8Array = new Uint8Array()): number {
    const request = this.#nextRequest();
    this.send(PartSchema, { request, payload });
    return request;
  }

  /** Ends the session by a Bye, behind all messages that were sent before. The event `closed` follows. */
  bye(): void {
    this.#core.leave();
    this.#settle();
  }

  /** Drops the link with all frames in flight, and dials again after `holdMs`. The session goes on. */
  cut(holdMs = 0): void {
    this.#core.cut(holdMs);
    this.#dialler.drop();
    this.update();
  }

  /** Cuts the link and dials again, the best transport first. For a change of the transports. */
  move(): void {
    this.#dialler.forget();
    this.cut();
  }

  /** Makes the next try at once. After `start` it is called when the network is back and when the page is shown. */
  hurry(): void {
    this.#heard(() => {
      this.#core.hurry();
      this.#dialler.hurry();
    });
  }

  get state(): ClientState {
    return this.#core.state;
  }

  /** The session id, from Welcome until the session is lost. */
  get session(): bigint | undefined {
    return this.#core.session;
  }

  /** The transport of the present link. */
  get transport(): TransportName | undefined {
    return this.#dialler.transport;
  }

  /** The smoothed round-trip time in milliseconds, from the server's Beacons. */
  get latencyMs(): number | undefined {
    return this.#core.latencyMs;
  }

  /** The number of failed tries since the last link. */
  get failures(): number {
    return this.#core.absence.failures;
  }

  /** How many times a session was resumed. */
  get resumeCount(): number {
    return this.#core.resumeCount;
  }

  /** The zone in the last Welcome. Empty: none. */
  get zone(): string {
    return this.#core.welcome?.zone ?? "";
  }

  /** The numbers of counted frames that were sent, acknowledged and received. */
  get counts(): Counts {
    return this.#core.counts;
  }
}

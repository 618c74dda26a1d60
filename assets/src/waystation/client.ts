// A client of a Waystation server: one session that outlives its links.
//
// It dials, says Hello, counts, acknowledges, echoes, keeps what the server has not counted, and
// resumes by itself. Each event of a link lets time pass too, so frames are answered as they arrive, and
// a link that ends is followed by the next one in the same event: neither waits for a timer, which a
// browser lets run late in a hidden page.
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

/** What a client is made of. */
export interface ClientOptions {
  transports: Transports;
  /** Keeps the resume token over a reload; without one a reload begins anew. */
  store?: TokenStore;
  config?: Partial<Config>;
  /** Milliseconds on a clock that never goes back. Default: `performance.now`. */
  now?: () => number;
}

/** A session with a server. */
export class Client {
  readonly #core: Core;
  readonly #dialler: Dialler;
  readonly #store: TokenStore | undefined;
  readonly #now: () => number;
  /** The token that this client put into the store, or found there. */
  #kept: Uint8Array | undefined;
  /** Whether it is known that no other page uses the token of the store. Nothing is dialled before. */
  #isClaimed = false;
  #isSettling = false;
  #request = 0;
  #ticker: Ticker | undefined;
  /** When time was last let pass. */
  #then: number;

  /** Told what happens, in order. */
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

  /** No other page uses the token of the store. */
  #claimed(): void {
    this.#isClaimed = true;
    this.#kept = this.#store?.load();
    if (this.#kept !== undefined) {
      this.#core.adopt(this.#kept);
    }
  }

  /** Lets the client run by the clock, until it has stopped. */
  start(): void {
    this.#ticker ??= new Ticker(
      () => this.update(),
      () => this.hurry(),
    );
    this.update();
  }

  /** Lets the time pass that has passed: `start` calls it again and again, a test by hand. */
  update(): void {
    this.#heard(() => this.#core.check());
  }

  /** Something arrives. First the time passes that has passed, which may end the link that it came on. */
  #heard(act: () => void): void {
    const now = this.#now();
    this.#core.advance(now - this.#then);
    this.#then = now;
    this.#release();
    act();
    this.#settle();
  }

  /** Tells what happened, lets go of links that are over, dials, and sends what is due. */
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

  /** The store holds the newest token; one that another client has put there since is not ours to clear. */
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

  /** Sends a message on its lane; what is returned says why it was not taken. */
  send<T extends DescMessage>(schema: T, message: MessageInitShape<T>): SendError | undefined {
    const error = this.#core.send(schema, message, this.#dialler.send);
    this.#core.transmit(this.#dialler.send);
    return error;
  }

  /** The number of the next Join or Part; never 0. */
  #nextRequest(): number {
    this.#request = this.#request >= 0xffff_ffff ? 1 : this.#request + 1;
    return this.#request;
  }

  /** Asks to join a zone: Joined or Refused answers with the number returned. */
  join(zone: string, payload: Uint8Array = new Uint8Array()): number {
    const request = this.#nextRequest();
    this.send(JoinSchema, { request, zone, payload });
    return request;
  }

  /** Leaves the zone: Parted or Refused answers with the number returned. */
  part(payload: Uint8Array = new Uint8Array()): number {
    const request = this.#nextRequest();
    this.send(PartSchema, { request, payload });
    return request;
  }

  /** Ends the session once all that was sent has left; `closed` follows. */
  bye(): void {
    this.#core.leave();
    this.#settle();
  }

  /** Throws the link away, whatever is on it, and dials again after `holdMs`. The session lives. */
  cut(holdMs = 0): void {
    this.#core.cut(holdMs);
    this.#dialler.drop();
    this.update();
  }

  /** Cuts the link and dials anew, the best transport first: for a change of the transports. */
  move(): void {
    this.#dialler.forget();
    this.cut();
  }

  /** Tries at once: the network is said to be back, or the page is shown again. `start` calls it for both. */
  hurry(): void {
    this.#heard(() => {
      this.#core.hurry();
      this.#dialler.hurry();
    });
  }

  get state(): ClientState {
    return this.#core.state;
  }

  /** The session, from its Welcome until it is lost. */
  get session(): bigint | undefined {
    return this.#core.session;
  }

  /** The transport of the link at hand. */
  get transport(): TransportName | undefined {
    return this.#dialler.transport;
  }

  /** The smoothed round-trip time of this link in milliseconds, as the server's beacons tell it. */
  get latencyMs(): number | undefined {
    return this.#core.latencyMs;
  }

  /** Tries in a row that failed since there was a link. */
  get failures(): number {
    return this.#core.absence.failures;
  }

  get resumeCount(): number {
    return this.#core.resumeCount;
  }

  /** The zone that the session is in after a resume; empty: none. */
  get zone(): string {
    return this.#core.welcome?.zone ?? "";
  }

  /** Reliable messages sent, of these acknowledged, and those received. */
  get counts(): Counts {
    return this.#core.counts;
  }
}

// A client of a Waystation server: one session that outlives its links.
//
// It dials, says Hello, counts, acknowledges, echoes, keeps what the server has not counted, and
// resumes by itself with growing pauses. Frames are taken and answered as they arrive, since a
// browser lets the timers of a page in the background run late. Each event of a link lets time pass
// too, so acks, echoes and the first try after a loss do not wait for a timer.
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
import type { Config } from "./config";
import { Core } from "./core";
import type { Transports } from "./discovery";
import type { ClientEvent, ClientState, SendError } from "./event";
import type { TokenStore } from "./store";
import type { Link, TransportName } from "./transport";

/** What a client is made of. */
export interface ClientOptions {
  transports: Transports;
  /** Keeps the resume token over a reload; without one a reload begins anew. */
  store?: TokenStore;
  config?: Partial<Config>;
}

/** A session with a server. */
export class Client {
  readonly #core: Core;
  readonly #transports: Transports;
  readonly #store: TokenStore | undefined;
  #link: Link | undefined;
  /** Which try is under way: what an older one says is not heard. */
  #try = 0;
  /** Whether that try has neither opened a link nor failed yet. */
  #isTrying = false;
  /** The token that this client put into the store, or found there. */
  #kept: Uint8Array | undefined;
  /** Whether it is known that no other page uses the token of the store. Nothing is dialled before. */
  #isClaimed = false;
  #transport: TransportName | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #then = 0;

  /** Told what happens, in order. */
  onEvent: (event: ClientEvent) => void = () => {};

  constructor({ transports, store, config }: ClientOptions) {
    this.#transports = transports;
    this.#store = store;
    this.#core = new Core(config);
    if (store?.claim === undefined) {
      this.#claimed();
    } else {
      const claimed = () => {
        this.#claimed();
        this.update(0);
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
    this.#then = performance.now();
    this.#timer ??= setInterval(() => this.#tick(), TIMER_MS);
    this.#tick();
  }

  #tick(): void {
    this.update(this.#elapsed());
  }

  /** The time since the last call; none for a client that is driven by hand. */
  #elapsed(): number {
    if (this.#timer === undefined) {
      return 0;
    }
    const now = performance.now();
    // A page that slept hears first what has arrived meanwhile, and then that time is over.
    const dtMs = Math.min(now - this.#then, DT_MAX_MS);
    this.#then = now;
    return dtMs;
  }

  /** Lets time pass: `start` calls it by a timer, a test by hand. */
  update(dtMs: number): void {
    this.#core.advance(dtMs);
    this.#core.check();
    this.#settle();
    this.#dialIfDue();
  }

  #dialIfDue(): void {
    if (this.#isClaimed && this.#core.wantsLink()) {
      this.#dial();
    }
  }

  #dial(): void {
    this.#core.dialled();
    const number = (this.#try += 1);
    const isCurrent = () => number === this.#try;
    const whenCurrent = (act: () => void) => {
      if (isCurrent()) {
        this.#core.advance(this.#elapsed());
        act();
        this.#settle();
        this.#dialIfDue();
      }
    };
    this.#isTrying = true;
    this.#open(isCurrent, whenCurrent).catch((error: unknown) => {
      whenCurrent(() => this.#core.linkClosed(error instanceof Error ? error.message : String(error)));
    });
  }

  async #open(isCurrent: () => boolean, whenCurrent: (act: () => void) => void): Promise<void> {
    const transport = await this.#transports.next();
    if (!isCurrent()) {
      return;
    }
    this.#link = transport.open({
      onOpen: () =>
        whenCurrent(() => {
          this.#isTrying = false;
          this.#transport = transport.name;
          this.#transports.tried(true);
          this.#core.opened();
        }),
      onFrame: (lane, bytes) => whenCurrent(() => this.#core.receive(lane, bytes)),
      onClose: (detail) => whenCurrent(() => this.#core.linkClosed(detail)),
      onBreach: (detail) => whenCurrent(() => this.#core.breached(detail)),
    });
  }

  /** Tells what happened, lets go of a link that is over, and sends what is due. */
  #settle(): void {
    if (this.#core.takeRelease()) {
      this.#letGo();
    }
    for (const event of this.#core.drain()) {
      this.#keepToken(event);
      this.onEvent(event);
    }
    this.#core.transmit(this.#send);
    if (this.#core.takeRelease()) {
      this.#letGo();
      this.#settle();
    }
    if (this.#core.isStopped()) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }

  #letGo(): void {
    this.#try += 1;
    if (this.#isTrying) {
      this.#isTrying = false;
      this.#transports.tried(false);
    }
    this.#transport = undefined;
    this.#link?.close();
    this.#link = undefined;
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

  readonly #send = (frame: Uint8Array): boolean => this.#link?.send(frame) ?? false;

  /** Sends a message on its lane; what is returned says why it was not taken. */
  send<T extends DescMessage>(schema: T, message: MessageInitShape<T>): SendError | undefined {
    const error = this.#core.send(schema, message, this.#send);
    this.#core.transmit(this.#send);
    return error;
  }

  /** Asks to join a zone: Joined or Refused answers with the number returned. */
  join(zone: string, payload: Uint8Array = new Uint8Array()): number {
    const request = this.#core.nextRequest();
    this.send(JoinSchema, { request, zone, payload });
    return request;
  }

  /** Leaves the zone: Parted or Refused answers with the number returned. */
  part(payload: Uint8Array = new Uint8Array()): number {
    const request = this.#core.nextRequest();
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
    this.update(0);
  }

  /** The network is said to be back: tries at once. */
  hurry(): void {
    this.#core.hurry();
    this.update(0);
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
    return this.#transport;
  }

  /** The smoothed round-trip time of this link in milliseconds, as the server's beacons tell it. */
  get latencyMs(): number | undefined {
    return this.#core.latencyMs;
  }

  get resumeCount(): number {
    return this.#core.resumeCount;
  }

  /** The zone that the session is in after a resume; empty: none. */
  get zone(): string {
    return this.#core.welcome?.zone ?? "";
  }

  /** Reliable messages sent, of these acknowledged, and those received. */
  get counts(): { sent: bigint; acked: bigint; received: bigint } {
    return this.#core.counts;
  }
}

/** Acks and pauses are due within a second or so; twenty looks a second are plenty. */
const TIMER_MS = 50;
/** The most time that one look may let pass. */
const DT_MAX_MS = 1_000;

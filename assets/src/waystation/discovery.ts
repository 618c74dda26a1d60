// Asks discovery which transports the server offers, and selects those that the browser supports.

import type { Transport, TransportName } from "./transport";
import { PROTOCOL } from "./wire";
import { WebSocketTransport } from "./websocket";
import { WebTransportTransport } from "./webtransport";

/** The members of the discovery answer (`GET /v1/connect`) that a browser uses. */
export interface Discovery {
  protocol: number;
  name: string;
  /** The offers. A client uses the first one of each transport, and ignores unknown transports. */
  offers: Offer[];
  /** A ticket, which opens one new session within a short time. */
  ticket?: string;
}

/** How to open links over one transport. */
export interface Offer {
  /** "webtransport", "websocket", or the name of a transport that browsers do not support. */
  transport: string;
  url: string;
  /** The SHA-256 of the certificate in hex, if no authority has signed it. */
  cert_sha256?: string;
}

/** The source of transports to dial. */
export interface Transports {
  /**
   * Resolves to the transports to race, best first. `isHasty` is true while a session waits for a link: then known
   * transports are returned even if they may be out of date.
   */
  offered(isHasty: boolean): Promise<Transport[]>;
  /** Notes that the offers or the ticket may be out of date: no transport has opened, or the ticket was refused. */
  failed(): void;
  /** Returns the ticket of the last answer once. Undefined if the server gave no ticket. */
  takeTicket?(): string | undefined;
}

/** The transports that may be used: all, or one of them. */
export type Preference = "auto" | TransportName;

/**
 * The transports from discovery: WebTransport if server and browser support it, and WebSocket. The answer is kept until
 * no transport of it opens, because then an address or a certificate may have changed.
 */
export class DiscoveredTransports implements Transports {
  #offer: Discovery | undefined;
  #isStale = false;
  /** The request that has no answer yet. */
  #asking: Promise<Discovery> | undefined;

  /** `url` is that of discovery. `bearer` is sent with each request if it is given. */
  constructor(
    private readonly url: string,
    public preference: Preference = "auto",
    private readonly bearer?: string,
  ) {}

  async offered(isHasty: boolean): Promise<Transport[]> {
    const known = this.#isStale && !isHasty ? undefined : this.#offer;
    const offer = known ?? (await this.#ask());
    const usable = candidates(offer, WebTransportTransport.isAvailable()).filter(
      ({ name }) => this.preference === "auto" || name === this.preference,
    );
    if (usable.length === 0) {
      this.#isStale = true;
      throw new Error(`server and browser have no ${this.preference === "auto" ? "transport" : this.preference} in common`);
    }
    return usable;
  }

  failed(): void {
    this.#isStale = true;
  }

  takeTicket(): string | undefined {
    const ticket = this.#offer?.ticket;
    if (ticket !== undefined) {
      // The next new session needs another ticket. A resume needs no ticket.
      delete this.#offer?.ticket;
      this.#isStale = true;
    }
    return ticket;
  }

  /** Asks discovery, unless a request is open. */
  #ask(): Promise<Discovery> {
    this.#asking ??= fetchOffer(this.url, this.bearer)
      .then((offer) => {
        this.#isStale = false;
        return (this.#offer = offer);
      })
      .finally(() => (this.#asking = undefined));
    return this.#asking;
  }
}

/** Returns the offered transports that a browser supports, best first. */
export function candidates(offer: Discovery, hasWebTransport: boolean): Transport[] {
  const [webtransport, websocket] = ["webtransport", "websocket"].map((name) =>
    offer.offers.find(({ transport }) => transport === name),
  );
  const list: Transport[] = [];
  if (webtransport !== undefined && hasWebTransport) {
    list.push(new WebTransportTransport(webtransport.url, webtransport.cert_sha256));
  }
  if (websocket !== undefined) {
    list.push(new WebSocketTransport(websocket.url));
  }
  return list;
}

async function fetchOffer(url: string, bearer: string | undefined): Promise<Discovery> {
  const headers = bearer === undefined ? {} : { authorization: `Bearer ${bearer}` };
  const signal = AbortSignal.timeout(FETCH_TIMEOUT_MS);
  const answer = await fetch(url, { headers, signal, cache: "no-store" }).catch((error: unknown) => {
    throw new Error(`discovery does not answer: ${error instanceof Error ? error.message : String(error)}`);
  });
  if (!answer.ok) {
    throw new Error(`discovery answers ${answer.status}: ${(await answer.text()).slice(0, 200)}`);
  }
  const offer = (await answer.json()) as Discovery;
  if (offer.protocol !== PROTOCOL) {
    throw new Error(`the server uses protocol ${offer.protocol} and this page protocol ${PROTOCOL}: reload the page`);
  }
  if (!Array.isArray(offer.offers)) {
    throw new Error("the answer of discovery has no list of offers: update the server");
  }
  return offer;
}

/** The timeout of discovery. It is the longest time of an opening, which takes as many round trips. */
const FETCH_TIMEOUT_MS = 6_000;

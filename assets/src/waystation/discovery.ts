// Which transports can be dialled: what the server offers and the browser has.

import type { Transport, TransportName } from "./transport";
import { PROTOCOL } from "./wire";
import { WebSocketTransport } from "./websocket";
import { WebTransportTransport } from "./webtransport";

/** What `GET /v1/connect` answers, as far as a browser can use it. */
export interface Discovery {
  protocol: number;
  name: string;
  /** A client takes the first offer of each transport, and ignores transports that it does not know. */
  offers: Offer[];
  /** Opens one new session within a short time. */
  ticket?: string;
}

/** How to open links over one transport. */
export interface Offer {
  /** "webtransport", "websocket", or the name of a transport that a browser does not have. */
  transport: string;
  url: string;
  cert_sha256?: string;
}

/** Says what can be dialled. */
export interface Transports {
  /**
   * The transports to race, best first. If `isHasty`, a session waits for a link: what is known is
   * returned, even if it may be out of date.
   */
  offered(isHasty: boolean): Promise<Transport[]>;
  /** Nothing that was offered has opened, or the server refused its ticket: it may be out of date. */
  failed(): void;
  /** The ticket of the last answer, once; undefined if the server gave none. */
  takeTicket?(): string | undefined;
}

/** Which transports may be used. */
export type Preference = "auto" | TransportName;

/**
 * Transports by discovery: WebTransport where server and browser have it, and WebSocket. The answer of
 * the server is kept until nothing of it opens: an address or a certificate may have changed.
 */
export class DiscoveredTransports implements Transports {
  #offer: Discovery | undefined;
  #isStale = false;
  /** The question that is under way. */
  #asking: Promise<Discovery> | undefined;

  /** `bearer` is sent along where the server asks for one. */
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
      // The next new session needs another one. A resume needs none.
      delete this.#offer?.ticket;
      this.#isStale = true;
    }
    return ticket;
  }

  /** Asks the server, unless an answer is on its way. */
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

/** The offered transports that a browser can use, best first. */
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
    throw new Error(`the server speaks protocol ${offer.protocol}, this page ${PROTOCOL}: reload it`);
  }
  return offer;
}

/** As long as an opening may take at most: discovery takes as many round trips. */
const FETCH_TIMEOUT_MS = 6_000;

// Which transport to try next: what the server offers, what the browser has, and what worked.

import type { Transport, TransportName } from "./transport";
import { PROTOCOL } from "./wire";
import { WebSocketTransport } from "./websocket";
import { WebTransportTransport } from "./webtransport";

/** What `GET /v1/connect` answers, as far as a browser can use it. */
export interface Discovery {
  protocol: number;
  name: string;
  webtransport?: { url: string; cert_sha256?: string };
  websocket?: { url: string };
}

/** Hands out the transport for the next try, and is told how it went. */
export interface Transports {
  next(): Promise<Transport>;
  /** The transport that was handed out last opened a link, or did not. */
  tried(opened: boolean): void;
}

/** Which transports may be used. */
export type Preference = "auto" | TransportName;

/**
 * Transports by discovery: WebTransport where server and browser have it, then WebSocket; one that
 * worked is tried first again after a loss. What the server answered is kept until a try fails: an
 * address or a certificate may have changed, and only a transport that fails by a fresh answer
 * gives way to the next.
 */
export class DiscoveredTransports implements Transports {
  #offer: Discovery | undefined;
  /** Which of the transports is next. */
  #index = 0;
  /** What the try at hand rests on: nothing yet, an answer that worked before, or one for this try. */
  #rests: "nothing" | "old" | "fresh" = "nothing";

  /** `bearer` is sent along where the server asks for one. */
  constructor(
    private readonly url: string,
    public preference: Preference = "auto",
    private readonly bearer?: string,
  ) {}

  async next(): Promise<Transport> {
    this.#rests = "nothing";
    const rests = this.#offer === undefined ? "fresh" : "old";
    this.#offer ??= await fetchOffer(this.url, this.bearer);
    const usable = candidates(this.#offer, WebTransportTransport.isAvailable()).filter(
      ({ name }) => this.preference === "auto" || name === this.preference,
    );
    const transport = usable[this.#index % usable.length];
    if (transport === undefined) {
      this.#offer = undefined;
      throw new Error(`server and browser have no ${this.preference === "auto" ? "transport" : this.preference} in common`);
    }
    this.#rests = rests;
    return transport;
  }

  tried(opened: boolean): void {
    if (!opened) {
      this.#offer = undefined;
      this.#index += this.#rests === "fresh" ? 1 : 0;
    }
  }

  /** Begins anew with the best transport of another preference. */
  prefer(preference: Preference): void {
    this.preference = preference;
    this.#index = 0;
  }
}

/** The offered transports that a browser can use, best first. */
export function candidates(offer: Discovery, hasWebTransport: boolean): Transport[] {
  const { webtransport, websocket } = offer;
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

/** As long as a link may take to open. */
const FETCH_TIMEOUT_MS = 2_000;

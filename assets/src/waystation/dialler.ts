// The links of one client: the one that carries its session, and those that are being opened.
//
// Once a link is lost all transports are raced, and the first that is open carries the Hello. When the
// link at hand has been silent for a while, or has not answered a resume, a spare link is opened beside
// it, over WebSocket where that may be used, since WebSocket gets through where UDP does not. The spare
// carries nothing until the link at hand is lost; then it carries the Hello at once. If the link at hand
// is heard again, the spare is closed.

import type { Config } from "./config";
import type { Core } from "./core";
import type { Transports } from "./discovery";
import { type Heard, Opening } from "./opening";
import { ClientPace } from "./pace";
import { Race } from "./race";
import type { Transport, TransportName } from "./transport";

/** Dials for a core. */
export class Dialler {
  readonly #pace: ClientPace;
  /** The link that carries the Hello and all that follows it. */
  #link: Opening | undefined;
  /** The openings under way: for the next link, or for the spare. */
  #race: Race | undefined;
  /** A link beside the one at hand; nothing was sent on it. */
  #spare: Opening | undefined;
  /** Numbers the questions what there is to dial; an answer to an older one is not heard. */
  #question = 0;
  #isAsking = false;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  /** The transport that carried the session last. It starts first. */
  #worked: TransportName | undefined;
  /** The transport on which nothing was heard. It starts last. */
  #silent: TransportName | undefined;

  constructor(
    private readonly transports: Transports,
    private readonly core: Core,
    private readonly config: Config,
    private readonly now: () => number,
    private readonly heard: Heard,
  ) {
    this.#pace = new ClientPace(config, core);
  }

  /** The transport of the link at hand. */
  get transport(): TransportName | undefined {
    return this.#link?.name;
  }

  /** Hands a frame to the link at hand; false if there is none, or it has no room. */
  readonly send = (frame: Uint8Array): boolean => this.#link?.send(frame) ?? false;

  /** Starts what is due, and takes what is open. */
  update(): void {
    if (this.core.wantsLink()) {
      this.core.dialled();
      this.#dial();
    }
    if (this.core.is("dialling")) {
      this.#search();
    } else if (this.core.is("greeting")) {
      this.#watch();
    } else if (this.core.is("bound")) {
      this.#worked = this.#link?.name;
      this.#silent = undefined;
      this.#watch();
    }
  }

  /** The network is said to be back: what waits for its turn starts at once. */
  hurry(): void {
    this.#race?.hurry();
  }

  /** The link at hand is over. A spare, or the opening of one, is kept if a link is wanted now or soon. */
  letGo(): void {
    if (this.core.wasSilent) {
      this.#silent = this.#link?.name ?? this.#silent;
    }
    const isSoon = this.core.wantsLink() || (this.core.wasSilent && this.core.isInWindow());
    const isSpareWanted = this.#link !== undefined && isSoon;
    this.#link?.close();
    this.#link = undefined;
    if (!isSpareWanted) {
      this.#dropOpenings();
    }
  }

  /** Closes all links. */
  drop(): void {
    this.#link?.close();
    this.#link = undefined;
    this.#dropOpenings();
  }

  /** Forgets which transport worked. */
  forget(): void {
    this.#worked = this.#silent = undefined;
  }

  #dropOpenings(): void {
    this.#race?.close();
    this.#spare?.close();
    this.#race = this.#spare = undefined;
    this.#cancelQuestion();
  }

  #cancelQuestion(): void {
    this.#question += 1;
    this.#isAsking = false;
  }

  /** Takes the spare, or opens links. The opening of a spare goes on among them. */
  #dial(): void {
    const spare = this.#spare;
    if (spare !== undefined && this.#isFresh(spare)) {
      this.#spare = undefined;
      this.#take(spare);
      return;
    }
    spare?.close();
    this.#spare = undefined;
    this.#ask(this.core.isInWindow(), (offered) => this.#enter(this.#ranked(offered)));
  }

  #search(): void {
    const open = this.#race?.update();
    if (open !== undefined) {
      this.#take(open);
      return;
    }
    const failure = this.#race?.takeFailure();
    if (failure !== undefined) {
      this.#failed(failure);
    } else if (this.#isAsking && this.now() - this.#askedAtMs >= this.config.dialTimeoutMaxMs) {
      this.#cancelQuestion();
      this.#unanswered("discovery does not answer in time");
    }
  }

  /** Keeps a spare beside the link at hand for as long as that link is silent, or leaves a resume unanswered. */
  #watch(): void {
    if (this.core.silenceMs < this.config.silenceMs && this.core.unansweredMs < UNANSWERED_MS) {
      if (this.#spare !== undefined || this.#race !== undefined || this.#isAsking) {
        this.#dropOpenings();
      }
      return;
    }
    this.#spare ??= this.#race?.update();
    if (this.#spare !== undefined) {
      this.#race = undefined;
      if (!this.#isFresh(this.#spare)) {
        this.#spare.close();
        this.#spare = undefined;
      }
    }
    const isSought = this.#spare !== undefined || this.#race !== undefined || this.#isAsking;
    if (!isSought && this.now() - this.#askedAtMs >= this.core.absence.retryMs()) {
      this.#ask(true, (offered) => {
        const stream = offered.find(({ name }) => name === "websocket") ?? offered[0];
        this.#enter(stream === undefined ? [] : [stream]);
      });
    }
  }

  /** The server ends a link on which it hears no Hello for too long. */
  #isFresh(spare: Opening): boolean {
    return spare.isOpen && this.now() - (spare.openedAtMs ?? 0) < SPARE_MAX_MS;
  }

  /** What carried the session last is first, and what was silent is last. */
  #ranked(offered: Transport[]): Transport[] {
    const rank = ({ name }: Transport) => (name === this.#silent ? 2 : name === this.#worked ? 0 : 1);
    return [...offered].sort((a, b) => rank(a) - rank(b));
  }

  #ask(isHasty: boolean, enter: (offered: Transport[]) => void): void {
    const number = (this.#question += 1);
    this.#isAsking = true;
    this.#askedAtMs = this.now();
    const answered = (act: () => void) =>
      this.heard(() => {
        if (number === this.#question) {
          this.#isAsking = false;
          act();
        }
      });
    this.transports.offered(isHasty).then(
      (offered) => answered(() => enter(offered)),
      (error: unknown) => answered(() => this.#unanswered(error instanceof Error ? error.message : String(error))),
    );
  }

  /** Nothing says what there is to dial. What is being opened goes on. */
  #unanswered(detail: string): void {
    if (this.#race === undefined && this.core.is("dialling")) {
      this.core.linkClosed(detail);
    }
  }

  #enter(transports: Transport[]): void {
    this.#race ??= new Race(this.#pace, this.now, this.heard);
    this.#race.enter(transports);
  }

  /** The Hello goes out on this link. */
  #take(link: Opening): void {
    this.#dropOpenings();
    this.#link = link;
    link.hear(this.core);
    const tookMs = (link.openedAtMs ?? link.sinceMs) - link.sinceMs;
    this.#pace.opened(link.name, tookMs);
    this.core.opened(tookMs, link.name === "websocket");
  }

  /** Nothing opens: what is known of the server may be out of date, so it is asked anew. */
  #failed(detail: string): void {
    this.transports.failed();
    const goesOn = this.core.stillOpening(detail);
    if (goesOn && !this.#isAsking && this.now() - this.#askedAtMs >= ASK_EVERY_MS) {
      this.#ask(false, (offered) => this.#enter(this.#ranked(offered)));
    }
  }
}

/** A server ends a link without a Hello after 5 s, and the Hello needs time to arrive. */
const SPARE_MAX_MS = 4_000;
/** The time between two questions to a server on which nothing opens. */
const ASK_EVERY_MS = 2_000;
/** How long a resume goes without an answer before a spare is opened for its next Hello, after 2.5 s. */
const UNANSWERED_MS = 1_000;

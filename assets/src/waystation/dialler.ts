// Holds the links of one client: the link of its session, and the links that are being opened.
//
// When a link is lost, all transports are raced, and the first open link carries the Hello. When the present link is
// silent for a while, or a resume on it has no answer, a spare link is opened. The spare uses WebSocket if possible,
// because WebSocket works where UDP is blocked. No frame is sent on the spare until the present link is lost; then it
// carries the Hello at once. If a frame arrives on the present link, the spare is closed.

import type { Config } from "./config";
import type { Core } from "./core";
import type { Transports } from "./discovery";
import { type Heard, Opening } from "./opening";
import { ClientPace } from "./pace";
import { Race } from "./race";
import type { Transport, TransportName } from "./transport";

/** Dials links for a core. */
export class Dialler {
  readonly #pace: ClientPace;
  /** The present link, which carries the Hello and all frames after it. */
  #link: Opening | undefined;
  /** The openings of the next link or of a spare. */
  #race: Race | undefined;
  /** The spare link. No frame was sent on it. */
  #spare: Opening | undefined;
  /** The number of the newest question for transports. Answers to older questions are ignored. */
  #question = 0;
  #isAsking = false;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  /** The transport that has carried the session last. It starts first in a race. */
  #worked: TransportName | undefined;
  /** The transport whose link was silent. It starts last in a race. */
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

  /** The transport of the present link. */
  get transport(): TransportName | undefined {
    return this.#link?.name;
  }

  /** Sends a frame on the present link. Returns false if there is no link or it has no room. */
  readonly send = (frame: Uint8Array): boolean => this.#link?.send(frame) ?? false;

  /** Starts openings that are due, and uses a link that is open. */
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

  /** Starts all openings that wait, because the network may be back. */
  hurry(): void {
    this.#race?.hurry();
  }

  /** Closes the present link. Keeps the spare, or its opening, if the core needs another link now or soon. */
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

  /** Forgets which transport has worked and which was silent. */
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

  /** Uses the spare, or opens links. The opening of a spare becomes one of them. */
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
      this.#unanswered("discovery has not answered in time");
    }
  }

  /** Keeps a spare open while the present link is silent or a resume on it has no answer. */
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

  /** Returns true if the spare is open, and the server will not close it before a Hello arrives. */
  #isFresh(spare: Opening): boolean {
    return spare.isOpen && this.now() - (spare.openedAtMs ?? 0) < SPARE_MAX_MS;
  }

  /** Sorts transports: the one that has worked first, and the one that was silent last. */
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

  /** Handles a question for transports that has failed. Openings go on. */
  #unanswered(detail: string): void {
    if (this.#race === undefined && this.core.is("dialling")) {
      this.core.linkClosed(detail);
    }
  }

  #enter(transports: Transport[]): void {
    this.#race ??= new Race(this.#pace, this.now, this.heard);
    this.#race.enter(transports);
  }

  /** Makes a link the present one. It carries the Hello. */
  #take(link: Opening): void {
    this.#dropOpenings();
    this.#link = link;
    link.hear(this.core);
    const tookMs = (link.openedAtMs ?? link.sinceMs) - link.sinceMs;
    this.#pace.opened(link.name, tookMs);
    this.core.opened(tookMs, link.name === "websocket");
  }

  /** Handles the failure of all transports. Asks discovery again, because the offers may be out of date. */
  #failed(detail: string): void {
    this.transports.failed();
    const goesOn = this.core.stillOpening(detail);
    if (goesOn && !this.#isAsking && this.now() - this.#askedAtMs >= ASK_EVERY_MS) {
      this.#ask(false, (offered) => this.#enter(this.#ranked(offered)));
    }
  }
}

/** How long a spare may be open. The server closes a link without a Hello after 5 s, and the Hello needs time to arrive. */
const SPARE_MAX_MS = 4_000;
/** The time between two questions to discovery while no transport opens. */
const ASK_EVERY_MS = 2_000;
/** How long a resume waits for its answer before a spare is opened. The spare carries the next Hello, after 2.5 s. */
const UNANSWERED_MS = 1_000;

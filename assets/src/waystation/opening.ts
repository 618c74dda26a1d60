// One link from the start of its opening to its end.

import type { Link, Transport, TransportName } from "./transport";
import type { Lane } from "./wire";

/** Lets time pass, acts, and settles what came of it. */
export type Heard = (act: () => void) => void;

/** Is told what happens on the link that carries the Hello. */
export interface Ear {
  receive(lane: Lane, bytes: Uint8Array): void;
  linkClosed(detail: string): void;
  breached(detail: string): void;
}

/** A link that is opening, open, or over. */
export class Opening {
  readonly name: TransportName;
  readonly #link: Link;
  #ear: Ear | undefined;
  #isClosed = false;
  /** When it was open. */
  openedAtMs: number | undefined;
  /** Why it ended; undefined while it has not, and after `close`. */
  ended: string | undefined;

  /** Starts to open a link. Throws what the transport throws. */
  constructor(
    transport: Transport,
    readonly sinceMs: number,
    now: () => number,
    heard: Heard,
  ) {
    // The link may have been closed by the time that has passed, and is not read then.
    const whenHeard = (act: () => void) => heard(() => this.#isClosed || act());
    this.name = transport.name;
    this.#link = transport.open({
      onOpen: () => whenHeard(() => (this.openedAtMs = now())),
      onFrame: (lane, bytes) => whenHeard(() => this.#ear?.receive(lane, bytes)),
      onClose: (detail) =>
        whenHeard(() => {
          this.ended = detail;
          this.#ear?.linkClosed(detail);
        }),
      onBreach: (detail) =>
        whenHeard(() => {
          this.ended = detail;
          this.#ear?.breached(detail);
        }),
    });
  }

  /** Whether the link carries frames. */
  get isOpen(): boolean {
    return this.openedAtMs !== undefined && this.ended === undefined && !this.#isClosed;
  }

  /** What the link brings from now on is told to `ear`. */
  hear(ear: Ear): void {
    this.#ear = ear;
  }

  /** Hands over a frame; false if the link has no room now or is not open. */
  send(frame: Uint8Array): boolean {
    return this.isOpen && this.#link.send(frame);
  }

  /** Closes the link. Nothing is told about it any more. */
  close(): void {
    this.#isClosed = true;
    this.#link.close();
  }
}

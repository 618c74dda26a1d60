// A link, from the start of its opening to its end.

import type { Link, Transport, TransportName } from "./transport";
import type { Lane } from "./wire";

/** Advances the time, calls `act`, and then does what is due. */
export type Heard = (act: () => void) => void;

/** Receives the events of the link that carries the Hello. */
export interface Ear {
  receive(lane: Lane, bytes: Uint8Array): void;
  linkClosed(detail: string): void;
  breached(detail: string): void;
}

/** A link that is opening, open or over. */
export class Opening {
  readonly name: TransportName;
  readonly #link: Link;
  #ear: Ear | undefined;
  #isClosed = false;
  /** The time at which it has opened, in milliseconds. */
  openedAtMs: number | undefined;
  /** Why the link has ended. Undefined before the end, and after `close`. */
  ended: string | undefined;

  /** Starts to open a link. Throws what the transport throws. */
  constructor(
    transport: Transport,
    readonly sinceMs: number,
    now: () => number,
    heard: Heard,
  ) {
    // `heard` advances the time first, which may close the link. Then its event is ignored.
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

  /** True while the link carries frames. */
  get isOpen(): boolean {
    return this.openedAtMs !== undefined && this.ended === undefined && !this.#isClosed;
  }

  /** Passes all further events of the link to `ear`. */
  hear(ear: Ear): void {
    this.#ear = ear;
  }

  /** Sends a frame. Returns false if the link has no room or is not open. */
  send(frame: Uint8Array): boolean {
    return this.isOpen && this.#link.send(frame);
  }

  /** Closes the link. No further events of it are passed on. */
  close(): void {
    this.#isClosed = true;
    this.#link.close();
  }
}

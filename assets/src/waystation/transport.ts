// The seam to the transports: what a client needs of one.

import type { Lane } from "./wire";

/** The transports that a browser has. */
export type TransportName = "webtransport" | "websocket";

/** What a link tells its client. Nothing is said before `open` of the transport has returned. */
export interface LinkEvents {
  /** The link carries frames. */
  onOpen(): void;
  /** A frame arrived. The reliable lane is in order. */
  onFrame(lane: Lane, bytes: Uint8Array): void;
  /** The link ended, or never opened. */
  onClose(detail: string): void;
  /**
   * The server broke the rules of the wire, and the link is closed. It ends the session, not just
   * the link: the server would do it again on the next one.
   */
  onBreach(detail: string): void;
}

/** One end of a link. */
export interface Link {
  /**
   * Hands over a frame, whose id says which lane it takes; false if the link has no room now or is
   * closed.
   */
  send(frame: Uint8Array): boolean;
  /** Closes the link. Nothing is told about it any more, and what it still holds is not read. */
  close(): void;
}

/** Opens links. */
export interface Transport {
  readonly name: TransportName;
  /** Starts to open a link. May throw, which is a try that failed. */
  open(events: LinkEvents): Link;
}

/**
 * Bytes that a link holds for the network before it refuses more: an outbox and what goes beside
 * it. What is refused stays in the outbox, which is bounded too.
 */
export const SEND_BUFFER_MAX = 512 * 1024;

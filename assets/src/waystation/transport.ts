// The interface between a client and its transports.

import type { Lane } from "./wire";

/** The transports that browsers support. */
export type TransportName = "webtransport" | "websocket";

/** The events of a link. The first one comes after `open` of the transport has returned. */
export interface LinkEvents {
  /** The link carries frames. */
  onOpen(): void;
  /** A frame has arrived. Frames of the reliable lane arrive in order. */
  onFrame(lane: Lane, bytes: Uint8Array): void;
  /** The link has ended or could not be opened. */
  onClose(detail: string): void;
  /**
   * The server has broken the protocol of the transport, and the link is closed. This also ends the session, because the
   * server would repeat it on the next link.
   */
  onBreach(detail: string): void;
}

/** The client's end of a link. */
export interface Link {
  /**
   * Sends a frame on the lane of its id. Returns false if the link has no room or is closed.
   */
  send(frame: Uint8Array): boolean;
  /** Closes the link. No further events come, and frames that have arrived are not read. */
  close(): void;
}

/** Opens links. */
export interface Transport {
  readonly name: TransportName;
  /** Starts to open a link. If it throws, the try has failed. */
  open(events: LinkEvents): Link;
}

/**
 * The most bytes that a link buffers before it refuses frames: twice an outbox. Counted frames that are refused stay in
 * the outbox.
 */
export const SEND_BUFFER_MAX = 512 * 1024;

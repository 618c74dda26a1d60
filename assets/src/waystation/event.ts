// What a client tells the game, in order, and what it refuses.

import type { Frame, Reason } from "./wire";

/** What happened. */
export type ClientEvent =
  /** A new session; both counts start at 0 and it is in no zone. */
  | { type: "connected"; session: bigint }
  /**
   * The session has a link again. With `resync` the server voided what was under way: open requests
   * are not answered, and what is known of the game is stale until its snapshot comes.
   */
  | { type: "resumed"; session: bigint; resync: boolean }
  /** The session's link is gone. The client is about to resume, unless `closed` follows. */
  | { type: "link-lost"; detail: string }
  /** No link could be opened, or the server refused; the next try follows after the pause. */
  | { type: "try-failed"; detail: string; pauseMs: number }
  /**
   * The session is over for this client; `unacked` reliable messages were never acknowledged. If no
   * `closed` follows, it asks for a new one.
   */
  | { type: "session-lost"; unacked: number; reason: Reason | undefined }
  /** A message from the server: read it with `decode`. */
  | { type: "message"; frame: Frame }
  /** The client has stopped; nothing follows. To play on, make a new client. */
  | { type: "closed"; reason: Reason | undefined; detail: string };

/** Where a client is in its life. */
export type ClientState = "connecting" | "connected" | "away" | "leaving" | "stopped";

/** Why a message was not taken. */
export type SendError =
  /** There is no session yet, or it is over. */
  | "no-session"
  /** The outbox is full: again once the server has acknowledged some. */
  | "full"
  /** An unreliable message while the link is away or has no room. */
  | "dropped"
  /** Longer than a server reads. */
  | "too-long"
  /** Link control belongs to the client itself. */
  | "link-control"
  /** After `bye`. */
  | "leaving";

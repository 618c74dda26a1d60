// The events of a client, its states, and the reasons for which it refuses a message.

import type { Frame, Reason } from "./wire";

/** An event of a client. */
export type ClientEvent =
  /** A new session. Its counts start at 0, and it is in no zone. */
  | { type: "connected"; session: bigint }
  /**
   * The session has another link. With `resync` what was in flight to the client is void: open requests get no
   * answer, and the game sends its full state again.
   */
  | { type: "resumed"; session: bigint; resync: boolean }
  /** The session has lost its link. The client resumes it, unless `closed` follows. */
  | { type: "link-lost"; detail: string }
  /** No link could be opened, or the server has refused the Hello. The next try follows after `pauseMs`. */
  | { type: "try-failed"; detail: string; pauseMs: number }
  /**
   * The session is over for this client. `unacked` reliable messages were not acknowledged. The client asks for a new
   * session, unless `closed` follows.
   */
  | { type: "session-lost"; unacked: number; reason: Reason | undefined }
  /** A message from the server. Read it with `decode`. */
  | { type: "message"; frame: Frame }
  /** The client has stopped. No event follows. */
  | { type: "closed"; reason: Reason | undefined; detail: string };

/** The state of a client. `away` means that its session has no link. */
export type ClientState = "connecting" | "connected" | "away" | "leaving" | "stopped";

/** The reason for which a message was refused. */
export type SendError =
  /** There is no session yet, or it is over. */
  | "no-session"
  /** The outbox is full. It has room again when the server acknowledges frames. */
  | "full"
  /** The message is unreliable, and there is no link or the link has no room. */
  | "dropped"
  /** The frame is longer than 16 KiB. */
  | "too-long"
  /** The message is link control, which only the client itself sends. */
  | "link-control"
  /** `bye` was called. */
  | "leaving";

// Where a client is in the life of a link, and which reasons end more than the link.

import type { Bound } from "./bound";
import { Reason } from "./wire";

export type Phase =
  /** No link; the next try starts in `leftMs`. */
  | { is: "waiting"; leftMs: number }
  /** A link is opening. */
  | { is: "dialling"; elapsedMs: number }
  /** The link is open; the Hello is not answered yet. */
  | { is: "greeting"; elapsedMs: number; said: boolean }
  /** The session has the link. */
  | { is: "bound"; link: Bound }
  | { is: "stopped" };

/** Reasons after which the client stops: the session is over, or another link has it. */
export const FINAL: ReadonlySet<Reason> = new Set([
  Reason.BYE,
  Reason.KICKED,
  Reason.CONFLICT,
  Reason.REPLACED,
  Reason.VERSION,
  Reason.PROTOCOL,
  Reason.UNAUTHENTICATED,
]);

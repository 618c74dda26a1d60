// Where a client is in the life of a link, and which reasons end more than the link.

import { ByeSchema } from "../gen/waystation/v1/link_pb";
import type { Bound, Send } from "./bound";
import type { ClientState } from "./event";
import { Reason, encode } from "./wire";

export type Phase =
  /** No link; the next try starts in `leftMs`. */
  | { is: "waiting"; leftMs: number }
  /** Links are opening. */
  | { is: "dialling" }
  /** A link is open; the Hello is not answered yet, and is given up after `timeoutMs`. */
  | { is: "greeting"; elapsedMs: number; timeoutMs: number; said: boolean }
  /** The session has the link. */
  | { is: "bound"; link: Bound }
  | { is: "stopped" };

/** What a phase is to the game. */
export function stateOf(phase: Phase, hasSession: boolean, isLeaving: boolean): ClientState {
  if (phase.is === "stopped") {
    return "stopped";
  }
  if (phase.is === "bound") {
    return isLeaving ? "leaving" : "connected";
  }
  return hasSession ? "away" : "connecting";
}

/** A Bye, from the wish to leave to its answer. */
export class Leaving {
  #elapsedMs = 0;
  #isSaid = false;

  advance(dtMs: number): void {
    this.#elapsedMs += dtMs;
  }

  /** Whether the server has not answered in time. */
  get isOverdue(): boolean {
    return this.#elapsedMs >= CLOSE_TIMEOUT_MS;
  }

  /** Says the Bye, once. */
  say(send: Send): void {
    this.#isSaid ||= send(encode(ByeSchema, {}));
  }
}

/** How long a Bye waits for its answer. */
const CLOSE_TIMEOUT_MS = 5_000;
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

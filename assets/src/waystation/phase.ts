// The phases of a client, and the reasons after which it stops.

import { ByeSchema } from "../gen/waystation/v1/link_pb";
import type { Bound, Send } from "./bound";
import type { ClientState } from "./event";
import { Reason, encode } from "./wire";

/** The phase of a client. */
export type Phase =
  /** There is no link. The next try starts in `leftMs`. */
  | { is: "waiting"; leftMs: number }
  /** Links are opening. */
  | { is: "dialling" }
  /** A link is open. The Hello has no answer yet, and waits for it for `timeoutMs`. `said`: it was sent. */
  | { is: "greeting"; elapsedMs: number; timeoutMs: number; said: boolean }
  /** The link drives the session. */
  | { is: "bound"; link: Bound }
  | { is: "stopped" };

/** Returns the state of a client that the game sees. */
export function stateOf(phase: Phase, hasSession: boolean, isLeaving: boolean): ClientState {
  if (phase.is === "stopped") {
    return "stopped";
  }
  if (phase.is === "bound") {
    return isLeaving ? "leaving" : "connected";
  }
  return hasSession ? "away" : "connecting";
}

/** The end of a session by a Bye, until the Bye is answered. */
export class Leaving {
  #elapsedMs = 0;
  #isSaid = false;

  advance(dtMs: number): void {
    this.#elapsedMs += dtMs;
  }

  /** True if the server has not answered in time. */
  get isOverdue(): boolean {
    return this.#elapsedMs >= CLOSE_TIMEOUT_MS;
  }

  /** Sends the Bye once. */
  say(send: Send): void {
    this.#isSaid ||= send(encode(ByeSchema, {}));
  }
}

/** How long a Bye waits for its answer, in milliseconds. */
const CLOSE_TIMEOUT_MS = 5_000;
/** The reasons after which the client stops: the session is over, or another link drives it. */
export const FINAL: ReadonlySet<Reason> = new Set([
  Reason.BYE,
  Reason.KICKED,
  Reason.CONFLICT,
  Reason.REPLACED,
  Reason.VERSION,
  Reason.PROTOCOL,
  Reason.UNAUTHENTICATED,
]);

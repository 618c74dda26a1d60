// Builds a Hello, and reads its answers.

import {
  type Closed,
  ClosedSchema,
  type Denied,
  DeniedSchema,
  HelloSchema,
  type Welcome,
  WelcomeSchema,
} from "../gen/waystation/v1/link_pb";
import type { Config } from "./config";
import type { Session } from "./session";
import { type Frame, PROTOCOL, decode, encode } from "./wire";

/** The source of tickets, which prove that a new session may be opened. */
export interface Proof {
  /** Returns the ticket for one Hello. Empty: no ticket. */
  take(): string;
  /** Gets another ticket, because the server has refused the last one. */
  renew(): void;
}

/** Returns a Hello that resumes the session, or without a session one that opens a new session with a ticket. */
export function hello(session: Session | undefined, { name, bearer, game }: Config, proof: Proof): Uint8Array {
  const common = { protocol: PROTOCOL, client: CLIENT, game };
  if (session === undefined) {
    const kind =
      bearer === undefined
        ? { case: "anonymous" as const, value: { name } }
        : { case: "bearer" as const, value: { token: bearer } };
    return encode(HelloSchema, { ...common, credentials: { kind }, ticket: proof.take() });
  }
  // A client that resumes leaves credentials and ticket empty.
  const { token, received, outbox, tokenOnly: resync } = session;
  const { trimmed, sent } = outbox;
  return encode(HelloSchema, { ...common, resume: { token, received, trimmed, resync, sent } });
}

/** Reads an answer to a Hello. Returns undefined if the frame is not an answer. Throws if its body does not parse. */
export function answerOf(frame: Frame): Welcome | Denied | Closed | undefined {
  return decode(WelcomeSchema, frame) ?? decode(DeniedSchema, frame) ?? decode(ClosedSchema, frame);
}

/** The name and version of this library, for the log of the server. */
const CLIENT = "waystation-web/0.1.0";

// The first message of a client on a link, and its answers.

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

/** What proves to a server that a new session may be opened. */
export interface Proof {
  /** The ticket for one Hello; empty if there is none. */
  take(): string;
  /** The server refused the proof: another one is to be got. */
  renew(): void;
}

/** The Hello that resumes a session or, without one, asks for a new one with a ticket. */
export function hello(session: Session | undefined, { name, bearer, game }: Config, proof: Proof): Uint8Array {
  const common = { protocol: PROTOCOL, client: CLIENT, game };
  if (session === undefined) {
    const kind =
      bearer === undefined
        ? { case: "anonymous" as const, value: { name } }
        : { case: "bearer" as const, value: { token: bearer } };
    return encode(HelloSchema, { ...common, credentials: { kind }, ticket: proof.take() });
  }
  // The token suffices; credentials beside it would have to match.
  const { token, received, outbox, tokenOnly: resync } = session;
  return encode(HelloSchema, { ...common, resume: { token, received, trimmed: outbox.trimmed, resync } });
}

/** Reads an answer to a Hello; undefined if the frame is none. Throws if its body does not parse. */
export function answerOf(frame: Frame): Welcome | Denied | Closed | undefined {
  return decode(WelcomeSchema, frame) ?? decode(DeniedSchema, frame) ?? decode(ClosedSchema, frame);
}

/** Name and version of this library, for the server's log. */
const CLIENT = "waystation-web/0.1.0";

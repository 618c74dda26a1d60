// The first message of a client on a link.

import { HelloSchema } from "../gen/waystation/v1/link_pb";
import type { Config } from "./config";
import type { Session } from "./session";
import { PROTOCOL, encode } from "./wire";

/** The Hello that resumes a session or, without one, asks for a new one. */
export function hello(session: Session | undefined, { name, bearer, game }: Config): Uint8Array {
  const common = { protocol: PROTOCOL, client: CLIENT, game };
  if (session === undefined) {
    const kind =
      bearer === undefined
        ? { case: "anonymous" as const, value: { name } }
        : { case: "bearer" as const, value: { token: bearer } };
    return encode(HelloSchema, { ...common, credentials: { kind } });
  }
  // The token suffices; credentials beside it would have to match.
  const { token, received, outbox, tokenOnly: resync } = session;
  return encode(HelloSchema, { ...common, resume: { token, received, trimmed: outbox.trimmed, resync } });
}

/** Name and version of this library, for the server's log. */
const CLIENT = "waystation-web/0.1.0";

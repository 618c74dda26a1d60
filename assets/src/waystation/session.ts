// The state of a session that outlives its links.

import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import type { Welcome } from "../gen/waystation/v1/link_pb";
import type { SendError } from "./event";
import { Outbox } from "./outbox";
import { FRAME_MAX_CLIENT, encode, idOf, rangeOf } from "./wire";

/** A session, with or without a link. */
export interface Session {
  /** The session id. Undefined before Welcome if the client has kept only its token. */
  id: bigint | undefined;
  /** The resume token of the last Welcome. */
  token: Uint8Array;
  /** The number of counted frames that were received. */
  received: bigint;
  outbox: Outbox;
  /** True if the client has kept nothing but its token. */
  tokenOnly: boolean;
}

/** Returns the session of a page that has kept only its token. */
export function fromToken(token: Uint8Array): Session {
  return { id: undefined, token, received: 0n, outbox: new Outbox(), tokenOnly: true };
}

/** Returns the new session of a Welcome. */
export function begun({ session, token }: Welcome): Session {
  return { id: session, token, received: 0n, outbox: new Outbox(), tokenOnly: false };
}

/** Applies the Welcome of a resume to a session. */
export function resumed(session: Session, { session: id, token, base, received }: Welcome): void {
  Object.assign(session, { id, token, tokenOnly: false, received: base });
  session.outbox.rebase(received);
}

/** Encodes a session message or a message of the game. Returns the reason if a client may not send it. */
export function gameFrame<T extends DescMessage>(schema: T, message: MessageInitShape<T>): Uint8Array | SendError {
  if (rangeOf(idOf(schema)) === "link") {
    return "link-control";
  }
  const frame = encode(schema, message);
  return frame.length > FRAME_MAX_CLIENT ? "too-long" : frame;
}

/** The numbers of counted frames of a session. */
export interface Counts {
  sent: bigint;
  /** How many of the sent frames the server has acknowledged. */
  acked: bigint;
  received: bigint;
}

/** Returns the counts of a session. Without a session they are 0. */
export function countsOf(session: Session | undefined): Counts {
  return {
    sent: session?.outbox.total ?? 0n,
    acked: session?.outbox.trimmed ?? 0n,
    received: session?.received ?? 0n,
  };
}

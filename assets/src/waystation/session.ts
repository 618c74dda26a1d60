// What a client keeps of a session over all its links.

import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import type { Welcome } from "../gen/waystation/v1/link_pb";
import type { SendError } from "./event";
import { Outbox } from "./outbox";
import { FRAME_MAX_CLIENT, encode, idOf, rangeOf } from "./wire";

/** A session, with or without a link. */
export interface Session {
  /** Unknown to a client that kept only its token, until its Welcome. */
  id: bigint | undefined;
  token: Uint8Array;
  /** Counted frames taken from the server. */
  received: bigint;
  outbox: Outbox;
  /** The client kept nothing but the token. */
  tokenOnly: boolean;
}

/** The session of a page that kept only its token. */
export function fromToken(token: Uint8Array): Session {
  return { id: undefined, token, received: 0n, outbox: new Outbox(), tokenOnly: true };
}

/** The session that a Welcome begins. */
export function begun({ session, token }: Welcome): Session {
  return { id: session, token, received: 0n, outbox: new Outbox(), tokenOnly: false };
}

/** The session has a link again, and takes over the counts of the Welcome. */
export function resumed(session: Session, { session: id, token, base, received }: Welcome): void {
  Object.assign(session, { id, token, tokenOnly: false, received: base });
  session.outbox.rebase(received);
}

/** A message of the session or the game as a frame, or why a client may not send it. */
export function gameFrame<T extends DescMessage>(schema: T, message: MessageInitShape<T>): Uint8Array | SendError {
  if (rangeOf(idOf(schema)) === "link") {
    return "link-control";
  }
  const frame = encode(schema, message);
  return frame.length > FRAME_MAX_CLIENT ? "too-long" : frame;
}

/** Reliable messages of a session. */
export interface Counts {
  sent: bigint;
  /** How many of the sent messages the server has acknowledged. */
  acked: bigint;
  received: bigint;
}

/** The counts of a session; without one they are 0. */
export function countsOf(session: Session | undefined): Counts {
  return {
    sent: session?.outbox.total ?? 0n,
    acked: session?.outbox.trimmed ?? 0n,
    received: session?.received ?? 0n,
  };
}

// A client of Waystation servers for browsers. A game's messages are those with an option `(waystation.v1.id)` in their
// .proto file.

export { Client, type ClientOptions } from "./client";
export type { Config } from "./config";
export type { ClientEvent, ClientState, SendError } from "./event";
export { DiscoveredTransports, type Preference, type Transports } from "./discovery";
export { SessionStorageStore, type TokenStore, tab } from "./store";
export type { Link, LinkEvents, Transport, TransportName } from "./transport";
export { type Frame, Reason, decode, encode, idOf, reasonName, sessionText } from "./wire";

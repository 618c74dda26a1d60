// How a client behaves; every field has a default.

export interface Config {
  /** `name/version` of the game; empty fits any server. */
  game: string;
  /** The name to show of an anonymous player. */
  name: string;
  /** A signed JWT, where the server asks for one; takes the place of the name. */
  bearer: string | undefined;
  /** A link on which nothing arrived for this long is lost. The server's is the same. */
  linkTimeoutMs: number;
  /** A link that has not opened after this long is given up. */
  dialTimeoutMs: number;
  /** The shortest pause before another try. */
  backoffMinMs: number;
  /** The longest pause before another try, unless the server asks for a longer one. */
  backoffMaxMs: number;
  /** Tries in a row that may fail before the client stops. With `Infinity` it never stops for that reason. Default: 15. */
  tries: number;
  /** Where the jitter of the pauses comes from: 0 to 1. */
  random: () => number;
}

/** As in the Rust client. */
export const DEFAULTS: Config = {
  game: "",
  name: "",
  bearer: undefined,
  linkTimeoutMs: 5_000,
  dialTimeoutMs: 2_000,
  backoffMinMs: 100,
  backoffMaxMs: 5_000,
  tries: 15,
  random: Math.random,
};

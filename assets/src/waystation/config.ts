// How a client behaves; every field has a default.

export interface Config {
  /** `name/version` of the game; empty fits any server. */
  game: string;
  /** The name to show of an anonymous player. */
  name: string;
  /** A signed JWT, where the server asks for one; takes the place of the name. */
  bearer: string | undefined;
  /**
   * A link on which nothing arrived for this long is lost, and so is the link of a client that got
   * neither time nor a socket event for this long. A WebSocket is also lost if the server has received
   * nothing for this long, as far as its Beacons tell: within a second more. The server's is the same.
   * Default: 5,000.
   */
  linkTimeoutMs: number;
  /** After this much silence a spare link is opened, which carries nothing until the first one is lost. Default: 2,500. */
  silenceMs: number;
  /** The time between the first openings of two transports. Default: 400. */
  staggerMs: number;
  /** An opening that takes longer is given up; the next one of its transport may take half as much longer. Default: 2,500. */
  dialTimeoutMs: number;
  /** The longest time that an opening may take, and discovery. Default: 6,000. */
  dialTimeoutMaxMs: number;
  /**
   * A Hello that is not answered after this long, or after three round trips if they take longer, goes to
   * another link. Default: 2,500.
   */
  welcomeTimeoutMs: number;
  /** The shortest pause before another try. Default: 100. */
  backoffMinMs: number;
  /** The longest pause before another try, unless the server asks for a longer one. Default: 5,000. */
  backoffMaxMs: number;
  /**
   * Tries in a row that may fail before the client stops. Tries while the session can be resumed do not
   * count. With `Infinity` the client never stops for that reason. Default: 15.
   */
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
  silenceMs: 2_500,
  staggerMs: 400,
  dialTimeoutMs: 2_500,
  dialTimeoutMaxMs: 6_000,
  welcomeTimeoutMs: 2_500,
  backoffMinMs: 100,
  backoffMaxMs: 5_000,
  tries: 15,
  random: Math.random,
};

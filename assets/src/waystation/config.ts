// The configuration of a client.

/** The configuration of a client. Every field has a default. */
export interface Config {
  /** `name/version` of the game. Empty: any game. Default: empty. */
  game: string;
  /** The name to show of an anonymous player. Default: empty. */
  name: string;
  /** A token for the server's authenticator. With it, `name` is not used. Default: undefined. */
  bearer: string | undefined;
  /**
   * The link timeout, as on the server. A link is lost if nothing is received on it for this time, or if the page
   * sleeps for this time. A WebSocket is also lost if, by the server's Beacons, the server receives nothing for this
   * time and 1 s more. Default: 5,000.
   */
  linkTimeoutMs: number;
  /** The silence after which a spare link is opened. It carries no frame until the present link is lost. Default: 2,500. */
  silenceMs: number;
  /** The time between the first openings of two transports. Default: 400. */
  staggerMs: number;
  /**
   * The time after which an opening is abandoned. The next opening of its transport may then take half as long again.
   * Default: 2,500.
   */
  dialTimeoutMs: number;
  /** The longest time for an opening, and for discovery. Default: 6,000. */
  dialTimeoutMaxMs: number;
  /**
   * How long a Hello waits for its answer, or three round trips if they are longer. Then the client uses another
   * link. Default: 2,500.
   */
  welcomeTimeoutMs: number;
  /** The shortest pause before another try. Default: 100. */
  backoffMinMs: number;
  /** The longest pause before another try, unless the server asks for a longer one. Default: 5,000. */
  backoffMaxMs: number;
  /**
   * The number of failed tries in a row after which the client stops. Tries while the session can be resumed do not
   * count. With `Infinity` the client tries without end. Default: 15.
   */
  tries: number;
  /** Returns a random number from 0 to 1, for the jitter of pauses. Default: `Math.random`. */
  random: () => number;
}

/** The defaults, the same as in the Rust client. */
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

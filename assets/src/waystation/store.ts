// Stores the resume token of a page, so that a reloaded page resumes the session.

import { claim } from "./claim";

/** A store for one resume token. Each Welcome replaces it. */
export interface TokenStore {
  /**
   * Resolves when `load` will not return a token that another page uses: a browser that duplicates a tab copies its
   * storage. A store without this method is used at once.
   */
  claim?(): Promise<void>;
  load(): Uint8Array | undefined;
  save(token: Uint8Array): void;
  clear(): void;
}

/**
 * The storage of a tab, which survives a reload. If it is full or forbidden, for example because the browser blocks all
 * cookies, nothing is stored, and a reloaded page begins a new session.
 */
export const tab = {
  get: (key: string): string | null => attempt(() => sessionStorage.getItem(key)) ?? null,
  set: (key: string, text: string): void => attempt(() => sessionStorage.setItem(key, text)),
  remove: (key: string): void => attempt(() => sessionStorage.removeItem(key)),
};

/** Calls `act`. Returns undefined if it throws, as each access to a forbidden storage does. */
function attempt<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch {
    return undefined;
  }
}

/**
 * Stores the token for the life of a tab. Two tabs are two players, also if one is a duplicate of the other: the
 * duplicate begins a new session.
 */
export class SessionStorageStore implements TokenStore {
  constructor(private readonly key: string) {}

  async claim(): Promise<void> {
    const kept = tab.get(this.#nameKey);
    if (kept !== null && (await claim(kept))) {
      return;
    }
    if (kept !== null) {
      this.clear();
    }
    const name = `${this.key}.${randomName()}`;
    tab.set(this.#nameKey, name);
    // A new name is always granted. Without a storage the name is lost, and no claim is needed.
    if (tab.get(this.#nameKey) === name) {
      void claim(name);
    }
  }

  /** The key of the name that the page claims. */
  get #nameKey(): string {
    return `${this.key}.claim`;
  }

  load(): Uint8Array | undefined {
    const text = tab.get(this.key);
    if (text === null || !/^([0-9a-f]{2})+$/.test(text)) {
      return undefined;
    }
    return new Uint8Array((text.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16)));
  }

  save(token: Uint8Array): void {
    tab.set(this.key, Array.from(token, hex).join(""));
  }

  clear(): void {
    tab.remove(this.key);
  }
}

/** Returns 16 random bytes as hexadecimal digits. */
function randomName(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), hex).join("");
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}

// Where a page keeps its resume token, so that a reload resumes the session.

import { claim } from "./claim";

/** Keeps a token; each Welcome replaces it. */
export interface TokenStore {
  /**
   * Resolves once `load` returns no token that another page uses: a browser that duplicates a tab
   * copies what the tab kept. A store without it is used at once.
   */
  claim?(): Promise<void>;
  load(): Uint8Array | undefined;
  save(token: Uint8Array): void;
  clear(): void;
}

/**
 * What a tab keeps over a reload. Where storage is full or forbidden, as it is where a browser blocks
 * all cookies, nothing is kept: a reload begins anew, and all else works.
 */
export const tab = {
  get: (key: string): string | null => attempt(() => sessionStorage.getItem(key)) ?? null,
  set: (key: string, text: string): void => attempt(() => sessionStorage.setItem(key, text)),
  remove: (key: string): void => attempt(() => sessionStorage.removeItem(key)),
};

/** Even to look at a storage that is forbidden throws. */
function attempt<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch {
    return undefined;
  }
}

/**
 * Keeps the token for the life of a tab. Two tabs are two players, also if one is a duplicate of the
 * other: the page that came later begins anew.
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
    // Without a storage nothing is kept, so there is nothing to claim. No other page has a new name.
    if (tab.get(this.#nameKey) === name) {
      void claim(name);
    }
  }

  /** Under this key the tab keeps the name that its page claims. */
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

/** 16 random bytes as hexadecimal digits. */
function randomName(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), hex).join("");
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}

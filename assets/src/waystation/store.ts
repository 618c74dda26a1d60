// Where a page keeps its resume token, so that a reload resumes the session.

/** Keeps a token; each Welcome replaces it. */
export interface TokenStore {
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

/** Keeps the token for the life of a tab: two tabs are two players. */
export class SessionStorageStore implements TokenStore {
  constructor(private readonly key: string) {}

  load(): Uint8Array | undefined {
    const text = tab.get(this.key);
    if (text === null || !/^([0-9a-f]{2})+$/.test(text)) {
      return undefined;
    }
    return new Uint8Array((text.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16)));
  }

  save(token: Uint8Array): void {
    const text = Array.from(token, (byte) => byte.toString(16).padStart(2, "0")).join("");
    tab.set(this.key, text);
  }

  clear(): void {
    tab.remove(this.key);
  }
}

// Where a page keeps its resume token, so that a reload resumes the session.

/** Keeps a token; each Welcome replaces it. */
export interface TokenStore {
  load(): Uint8Array | undefined;
  save(token: Uint8Array): void;
  clear(): void;
}

/** Keeps the token for the life of a tab: two tabs are two players. */
export class SessionStorageStore implements TokenStore {
  constructor(private readonly key: string) {}

  load(): Uint8Array | undefined {
    const text = sessionStorage.getItem(this.key);
    if (text === null || !/^([0-9a-f]{2})+$/.test(text)) {
      return undefined;
    }
    return new Uint8Array((text.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16)));
  }

  save(token: Uint8Array): void {
    const text = Array.from(token, (byte) => byte.toString(16).padStart(2, "0")).join("");
    try {
      sessionStorage.setItem(this.key, text);
    } catch {
      // Storage is full or forbidden: then a reload begins anew, and all else works.
    }
  }

  clear(): void {
    sessionStorage.removeItem(this.key);
  }
}

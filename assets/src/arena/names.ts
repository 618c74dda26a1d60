// A name for a player who has not chosen one, kept for the life of the tab.

import { tab } from "../waystation";

/** The player's name: from the page's address, from before, or drawn. */
export function chooseName(asked: string | null): string {
  const name = cut(asked ?? tab.get(KEY) ?? `${draw(FIRST)} ${draw(SECOND)}`);
  keepName(name);
  return name;
}

/** Keeps a name. */
export function keepName(name: string): void {
  tab.set(KEY, name);
}

/** As many characters as the arena shows. */
export function cut(name: string): string {
  return name.trim().slice(0, NAME_MAX);
}

function draw(words: readonly string[]): string {
  return words[Math.floor(Math.random() * words.length)] ?? "";
}

const KEY = "waystation.name";
/** The arena cuts names to 16 bytes. */
const NAME_MAX = 16;
const FIRST = ["brave", "calm", "dusty", "early", "fond", "grey", "happy", "keen", "lucky", "mild", "quick", "shy"];
const SECOND = ["badger", "crane", "dingo", "finch", "gecko", "heron", "ibex", "lynx", "otter", "raven", "stoat", "wren"];

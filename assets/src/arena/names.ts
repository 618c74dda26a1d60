// Chooses the name of the player, and stores it for the life of the tab.

import { tab } from "../waystation";

/** Returns the name from the page's URL, or the stored one, or a random one. */
export function chooseName(asked: string | null): string {
  const name = cut(asked ?? tab.get(KEY) ?? `${draw(FIRST)} ${draw(SECOND)}`);
  keepName(name);
  return name;
}

/** Stores a name. */
export function keepName(name: string): void {
  tab.set(KEY, name);
}

/** Cuts a name to the characters that the arena shows. */
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

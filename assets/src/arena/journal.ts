// What happened to the session, for the player to read: a list that grows at the top.

/** How an entry is coloured. */
export type Mood = "good" | "bad" | "plain";

/** The page's journal. */
export class Journal {
  /** The newest entries, as text, oldest first. */
  readonly texts: string[] = [];

  constructor(private readonly list: HTMLElement) {}

  write(mood: Mood, text: string): void {
    this.texts.push(text);
    const entry = document.createElement("li");
    entry.className = mood;
    const time = document.createElement("time");
    time.textContent = new Date().toLocaleTimeString(undefined, { hour12: false });
    entry.append(time, " ", text);
    this.list.prepend(entry);
    if (this.texts.length > ENTRIES_MAX) {
      this.texts.shift();
      this.list.lastElementChild?.remove();
    }
  }
}

/** Entries that are kept. */
const ENTRIES_MAX = 60;

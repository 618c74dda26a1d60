// The journal of the page: a list of what has happened to the session, newest first.

/** The mood of an entry, which sets its colour. */
export type Mood = "good" | "bad" | "plain";

/** The page's journal. */
export class Journal {
  /** The texts of the entries that are kept, oldest first. */
  readonly texts: string[] = [];

  constructor(private readonly list: HTMLElement) {}

  /** Adds an entry. */
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

/** The number of entries that are kept. */
const ENTRIES_MAX = 60;

/** Up to eight adapters that are pinned at the bottom of every screen; Compare and Merge take theirs from it. */

export interface Pinned {
  id: string;
  name: string;
}

export const TRAY_LIMIT = 8;
const KEY = "lora-analysis-tray";
const listeners = new Set<() => void>();
let pinned: readonly Pinned[] = read();

function read(): readonly Pinned[] {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    if (!Array.isArray(found)) return [];
    return found
      .filter((one): one is Pinned => typeof one?.id === "string" && typeof one?.name === "string")
      .slice(0, TRAY_LIMIT);
  } catch {
    return [];
  }
}

function change(next: readonly Pinned[]): void {
  pinned = next;
  try {
    localStorage.setItem(KEY, JSON.stringify(next));
  } catch {
    // Storage may be full or forbidden; the tray then lasts as long as the page.
  }
  for (const listener of listeners) listener();
}

export const tray = {
  get: () => pinned,
  subscribe(listener: () => void): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  /** False where there is no room. */
  pin(one: Pinned): boolean {
    if (pinned.some(({ id }) => id === one.id)) return true;
    if (pinned.length >= TRAY_LIMIT) return false;
    change([...pinned, one]);
    return true;
  },
  unpin: (id: string) => change(pinned.filter((one) => one.id !== id)),
  move(id: string, by: number): void {
    const from = pinned.findIndex((one) => one.id === id);
    const to = from + by;
    if (from < 0 || to < 0 || to >= pinned.length) return;
    const next = [...pinned];
    const [one] = next.splice(from, 1);
    next.splice(to, 0, one!);
    change(next);
  },
  clear: () => change([]),
};

/** The file that was dropped on the page. A File cannot be put into a link, so it lives here until the page is left. */

let current: File | null = null;
const listeners = new Set<() => void>();

export const localFile = {
  get: () => current,
  set(file: File | null): void {
    current = file;
    for (const listener of listeners) listener();
  },
  subscribe(listener: () => void): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};

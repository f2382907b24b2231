/** Whether the server has stopped knowing this page: requests wait here until somebody has logged in. */

type Listener = () => void;

let needed = false;
let waiting: Listener[] = [];
const listeners = new Set<Listener>();

function tell(): void {
  for (const listener of listeners) listener();
}

export const session = {
  /** Resolves once a login succeeded; the dialog is on the page until then. */
  required(): Promise<void> {
    const done = new Promise<void>((resolve) => waiting.push(resolve));
    if (!needed) {
      needed = true;
      tell();
    }
    return done;
  },
  opened(): void {
    needed = false;
    const resolved = waiting;
    waiting = [];
    tell();
    for (const resolve of resolved) resolve();
  },
  isNeeded: () => needed,
  subscribe(listener: Listener): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};

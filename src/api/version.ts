/** Whether this page and the server are of one version: a tab may stay open over an update of the server. */

/** What the page was built for: the version in package.json, which a test holds to the package's. */
export const BUILT_FOR = __LORA_VERSION__;

type Listener = () => void;

let other: string | null = null;
const listeners = new Set<Listener>();

export const serverVersion = {
  /** Take note of what a reply says; null where it says nothing, as a refusal does. */
  heard(version: string | null): void {
    if (version === null || version === (other ?? BUILT_FOR)) return;
    other = version === BUILT_FOR ? null : version;
    for (const listener of listeners) listener();
  },
  /** The server's version where it is not the page's. */
  other: () => other,
  subscribe(listener: Listener): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};

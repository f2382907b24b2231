/** The URL's query as state. Readers never throw: a link that was edited by hand shows the nearest sensible screen. */

export type RawSearch = Record<string, string | string[]>;

export function parseSearch(text: string): RawSearch {
  const found: RawSearch = Object.create(null);
  for (const [name, value] of new URLSearchParams(text)) {
    const known = found[name];
    found[name] = known === undefined ? value : [...(Array.isArray(known) ? known : [known]), value];
  }
  return { ...found };
}

/** Lists as repeated parameters; what is empty is left out, so that short states have short links. */
export function stringifySearch(search: Record<string, unknown>): string {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(search)) {
    if (value === undefined || value === null || value === "" || value === false) continue;
    for (const one of Array.isArray(value) ? value : [value]) words.append(name, one === true ? "1" : String(one));
  }
  const text = words.toString();
  return text ? `?${text}` : "";
}

type Unread = Record<string, unknown>;

export function text(search: Unread, name: string): string | undefined {
  const value = search[name];
  const first = Array.isArray(value) ? value[0] : value;
  return first === undefined || first === null || first === "" ? undefined : String(first);
}

export function list(search: Unread, name: string): string[] | undefined {
  const value = search[name];
  if (value === undefined || value === null || value === "") return undefined;
  const values = (Array.isArray(value) ? value : [value]).map(String).filter(Boolean);
  return values.length ? [...new Set(values)] : undefined;
}

export function decimal(
  search: Unread,
  name: string,
  low = Number.NEGATIVE_INFINITY,
  high = Number.POSITIVE_INFINITY,
): number | undefined {
  const raw = text(search, name);
  if (raw === undefined) return undefined;
  const value = Number(raw);
  return Number.isFinite(value) && value >= low && value <= high ? value : undefined;
}

export function integer(search: Unread, name: string, low = 0, high = Number.MAX_SAFE_INTEGER): number | undefined {
  const value = decimal(search, name, low, high);
  return value !== undefined && Number.isInteger(value) ? value : undefined;
}

export function flag(search: Unread, name: string): boolean | undefined {
  const value = text(search, name);
  return value === "1" || value === "true" ? true : undefined;
}

export function oneOf<Name extends string>(search: Unread, name: string, known: readonly Name[]): Name | undefined {
  const value = text(search, name);
  return known.find((one) => one === value);
}

const ID = /^[0-9a-f]{20}$/;

export function id(search: Unread, name: string): string | undefined {
  const value = text(search, name);
  return value && ID.test(value) ? value : undefined;
}

export function ids(search: Unread, name: string, most = 32): string[] | undefined {
  const values = list(search, name)
    ?.filter((value) => ID.test(value))
    .slice(0, most);
  return values?.length ? values : undefined;
}

/** Names of layers, shortened for axes, and rows in groups. */

export interface Group {
  row: number;
  name: string;
}

interface Placed {
  component: string;
  block: string | null;
}

/** Rows that follow each other within one component and block. */
export function groupsOf(rows: readonly Placed[]): Group[] {
  const groups: Group[] = [];
  let last = "";
  rows.forEach(({ component, block }, row) => {
    const name = block ? `${shortComponent(component)} ${block}` : shortComponent(component);
    if (name !== last) groups.push({ row, name });
    last = name;
  });
  return groups;
}

export function shortComponent(component: string): string {
  const known: Record<string, string> = {
    text_encoder: "te1",
    text_encoder_2: "te2",
    text_encoder_3: "te3",
    transformer: "dit",
  };
  return known[component] ?? component;
}

/** By component and block, in the order they are first met; the order within a block stays. */
export function orderRows(rows: readonly Placed[]): number[] {
  const components = [...new Set(rows.map((row) => row.component))];
  const first = new Map<string, number>();
  rows.forEach((row, at) => {
    const key = `${row.component} ${row.block ?? ""}`;
    if (!first.has(key)) first.set(key, at);
  });
  const place = (at: number): [number, number] => [
    components.indexOf(rows[at]!.component),
    first.get(`${rows[at]!.component} ${rows[at]!.block ?? ""}`)!,
  ];
  return rows.map((_, at) => at).sort((a, b) => place(a)[0] - place(b)[0] || place(a)[1] - place(b)[1] || a - b);
}

import { Box, Button, Checkbox, Group, SegmentedControl, Stack, Text, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schemas } from "../../api/client";
import { roots } from "../../api/queries";
import { count, printable } from "../../lib/format";

const TITLES: [string, string][] = [
  ["root", "Folder"],
  ["base_model", "Base model"],
  ["algorithm", "Algorithm"],
  ["dialect", "Key names"],
  ["trainer", "Trainer"],
  ["dtype", "Precision"],
  ["problems", "Health"],
];
const WORDS: Record<string, string> = {
  error: "has errors",
  warning: "has notes",
  none: "nothing found",
  duplicate: "duplicates",
};

type Search = Record<string, unknown>;

interface FacetsProps {
  search: Search;
  page: Schemas["AdapterPage"] | undefined;
  change: (next: Search) => void;
}

export function Facets({ search, page, change }: FacetsProps) {
  const isFiltered = [...TITLES.map(([name]) => name), "tag", "rank_min", "rank_max", "q"].some(
    (name) => search[name] !== undefined,
  );
  const [open, setOpen] = useState(false);
  return (
    <Stack className="facets" gap="md" component="section" aria-label="Filters" data-open={open || undefined}>
      <Group justify="space-between" h={36}>
        <Text fw={600} size="sm" className="facets-title">
          Filters
        </Text>
        {/* Where they do not fit beside the list they would stand before it, and are closed at first. */}
        <Button
          className="facets-toggle"
          size="compact-sm"
          variant="default"
          aria-expanded={open}
          onClick={() => setOpen(!open)}
        >
          Filters
        </Button>
        {isFiltered && (
          <Button
            size="compact-xs"
            variant="subtle"
            onClick={() => change(Object.fromEntries(Object.keys(search).map((name) => [name, undefined])))}
          >
            Clear
          </Button>
        )}
      </Group>
      {TITLES.map(([name, title]) => (
        <Facet
          key={name}
          name={name}
          title={title}
          values={page?.facets[name] ?? []}
          chosen={(search[name] as string[]) ?? []}
          change={change}
        />
      ))}
      <RankRange search={search} page={page} change={change} />
      <Facet
        name="tag"
        title="Tags"
        values={page?.facets.tags ?? []}
        chosen={(search.tag as string[]) ?? []}
        change={change}
        few={8}
      >
        <SegmentedControl
          size="xs"
          aria-label="Adapters with any or with all of the tags"
          data={[
            { value: "any", label: "any" },
            { value: "all", label: "all" },
          ]}
          value={search.all_tags ? "all" : "any"}
          onChange={(value) => change({ all_tags: value === "all" || undefined })}
        />
      </Facet>
    </Stack>
  );
}

interface FacetProps {
  name: string;
  title: string;
  values: Schemas["FacetValue"][];
  chosen: string[];
  change: (next: Search) => void;
  few?: number;
  children?: React.ReactNode;
}

function Facet({ name, title, values, chosen, change, few = 6, children }: FacetProps) {
  const [all, setAll] = useState(false);
  const { data: folders } = useQuery({ ...roots, enabled: name === "root" });
  const usable = values.filter(({ value, count: n }) => n > 0 || chosen.includes(value ?? "-"));
  if (usable.length === 0 || (usable.length < 2 && chosen.length === 0)) return null;
  const shown = all ? usable : usable.slice(0, few);
  const toggle = (value: string) => {
    const next = chosen.includes(value) ? chosen.filter((one) => one !== value) : [...chosen, value];
    change({ [name]: next.length ? next : undefined });
  };
  return (
    <Box component="fieldset" style={{ border: 0, margin: 0, padding: 0 }}>
      <Group justify="space-between" mb={4} wrap="nowrap">
        <Text component="legend" size="xs" fw={600} c="dimmed" p={0}>
          {title}
        </Text>
        {children}
      </Group>
      <Stack gap={8}>
        {shown.map(({ value, count: n }) => {
          const key = value ?? "-";
          const words =
            value === null
              ? "not stated"
              : (folders?.find((root) => root.id === value)?.label ?? WORDS[value] ?? value);
          return (
            <Group key={key} justify="space-between" wrap="nowrap" gap={6}>
              <Checkbox
                size="xs"
                checked={chosen.includes(key)}
                onChange={() => toggle(key)}
                label={<span className="breakable">{printable(words)}</span>}
                aria-label={`${title}: ${printable(words)}, ${n}`}
              />
              <Text size="xs" c="dimmed" className="num">
                {count(n)}
              </Text>
            </Group>
          );
        })}
      </Stack>
      {usable.length > few && (
        <Button size="compact-xs" variant="subtle" mt={4} onClick={() => setAll(!all)}>
          {all ? "Fewer" : `All ${usable.length}`}
        </Button>
      )}
    </Box>
  );
}

function RankRange({ search, page, change }: FacetsProps) {
  const [low, high] = [page?.rank_min ?? undefined, page?.rank_max ?? undefined];
  if (low === undefined && search.rank_min === undefined && search.rank_max === undefined) return null;
  return (
    <Box component="fieldset" style={{ border: 0, margin: 0, padding: 0 }}>
      <Text component="legend" size="xs" fw={600} c="dimmed" p={0} mb={4}>
        Rank
      </Text>
      <Group gap={6} wrap="nowrap">
        <Rank
          label="Smallest rank"
          placeholder={low}
          value={search.rank_min as number | undefined}
          onChange={(rank_min) => change({ rank_min })}
        />
        <Text size="xs">to</Text>
        <Rank
          label="Largest rank"
          placeholder={high}
          value={search.rank_max as number | undefined}
          onChange={(rank_max) => change({ rank_max })}
        />
      </Group>
    </Box>
  );
}

interface RankProps {
  label: string;
  placeholder: number | undefined;
  value: number | undefined;
  onChange: (rank: number | undefined) => void;
}

/** The browser's own field for numbers: Mantine's is 9 kB of what the first screen has to fetch. */
function Rank({ label, placeholder, value, onChange }: RankProps) {
  const read = (text: string) => (/^\d+$/.test(text) ? Number(text) : undefined);
  return (
    <TextInput
      type="number"
      min={0}
      step={1}
      size="xs"
      aria-label={label}
      placeholder={placeholder === undefined ? "" : String(placeholder)}
      value={value ?? ""}
      onChange={(event) => onChange(read(event.currentTarget.value))}
    />
  );
}

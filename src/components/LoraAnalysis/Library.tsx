import { Alert, Badge, Button, Group, Stack, Text, TextInput, Title, VisuallyHidden } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { IconBooks, IconRefresh, IconX } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { type AdapterRow, api, take } from "../../api/client";
import { jobs, type LibraryFilters } from "../../api/queries";
import { failed } from "../../app/notices";
import { save, toCsv } from "../../lib/export";
import { bytes, count, date, printable, rankText, short } from "../../lib/format";
import { tray } from "../../lib/tray";
import { Empty, ErrorState, Waiting } from "../ui/states";
import { type Column, VirtualTable } from "../ui/VirtualTable";
import { CombineButtons } from "./CombineButtons";
import { Facets } from "./Facets";
import { Problems } from "./Problems";
import { usePagedLibrary } from "./usePagedLibrary";

const AdapterDrawer = lazy(() => import("./AdapterDrawer").then(({ AdapterDrawer: drawer }) => ({ default: drawer })));

const SORTS = ["name", "size", "modified", "rank", "alpha", "parameters", "base_model", "algorithm", "problems"];

export default function Library() {
  const search = useSearch({ from: "/library" });
  const navigate = useNavigate({ from: "/library" });
  const client = useQueryClient();
  const { id } = search;
  // Fetched with the first row that is opened, and kept for its closing.
  const wasOpened = useRef(false);
  wasOpened.current ||= id !== undefined;
  const filters = useMemo(() => filtersOf(search), [search]);
  const { first, total, rowAt, onRange } = usePagedLibrary(filters);
  const [chosen, setChosen] = useState<ReadonlyMap<string, AdapterRow>>(new Map());
  const { data: known } = useQuery(jobs);
  const scanning = known?.find((job) => job.kind === "scan" && (job.state === "running" || job.state === "queued"));
  const change = (next: Partial<typeof search>) =>
    void navigate({ search: (before) => ({ ...before, ...next }), replace: true });

  // Rows appear while the scan finds them.
  const found = scanning?.progress.done;
  useEffect(() => {
    if (found === undefined) return;
    const timer = setTimeout(() => void client.invalidateQueries({ queryKey: ["library"] }), 800);
    return () => clearTimeout(timer);
  }, [found, client]);

  const scan = useMutation({
    mutationFn: () => take(api.POST("/api/v1/scans", { body: { roots: [] } })),
    meta: { failure: "The scan could not be started", success: "Scanning the library" },
  });
  const toggle = useCallback((row: AdapterRow) => {
    setChosen((known) => {
      const next = new Map(known);
      if (!next.delete(row.id)) next.set(row.id, row);
      return next;
    });
  }, []);
  const columns = useMemo(() => columnsOf(chosen, toggle), [chosen, toggle]);
  const filtered = Object.entries(filters).some(
    ([name, value]) => value !== undefined && name !== "sort" && name !== "descending",
  );

  return (
    <div className="library">
      <Facets search={search} page={first.data} change={change} />
      <Stack gap="sm" mih={0} style={{ minHeight: 0 }}>
        <Group justify="space-between" gap="xs">
          <Group gap="sm" align="baseline">
            <Title order={1} size="h3">
              Library
            </Title>
            <Text size="sm" c="dimmed" aria-live="polite" className="num">
              {first.data
                ? `${count(total)} adapter${total === 1 ? "" : "s"} · ${first.data.milliseconds.toFixed(0)} ms`
                : ""}
              {scanning ? ` · scanning, ${count(scanning.progress.done)} so far` : ""}
            </Text>
          </Group>
          <Group gap="xs" wrap="nowrap" className="library-search">
            <SearchBox value={search.q} onChange={(q) => change({ q })} />
            <Button
              size="sm"
              flex="none"
              variant="default"
              leftSection={<IconRefresh size={16} aria-hidden />}
              loading={scan.isPending || Boolean(scanning)}
              onClick={() => scan.mutate()}
            >
              Rescan
            </Button>
          </Group>
        </Group>
        {chosen.size > 0 && <Selection chosen={chosen} clear={() => setChosen(new Map())} />}
        {first.isError && (
          <ErrorState error={first.error} title="The library cannot be shown" retry={() => void first.refetch()} />
        )}
        {first.isPending && <Waiting what="Reading the catalog" />}
        {first.data && total === 0 && (
          <Empty
            title={filtered ? "Nothing matches" : "No adapters here yet"}
            icon={<IconBooks size={40} stroke={1.3} aria-hidden />}
          >
            {filtered ? (
              <Button variant="default" onClick={() => void navigate({ search: {} })}>
                Clear all filters
              </Button>
            ) : (
              <Text size="sm">
                Drop a file anywhere on this page to look into it, or start the server with your folders:{" "}
                <span className="mono">lora serve ~/models/loras</span>. <span className="mono">lora demo</span> writes
                a small library to try.
              </Text>
            )}
          </Empty>
        )}
        {first.data && total > 0 && (
          <div className="library-rows">
            <VirtualTable
              label="Adapters"
              columns={columns}
              count={total}
              rowAt={rowAt}
              rowKey={(row) => row.id}
              sort={{
                id: search.sort && SORTS.includes(search.sort) ? search.sort : "name",
                descending: Boolean(search.descending),
              }}
              onSort={(sort) => change({ sort: sort.id, descending: sort.descending || undefined })}
              onOpen={(row) => change({ id: row.id })}
              onToggle={toggle}
              isSelected={(row) => chosen.has(row.id) || row.id === id}
              onRange={onRange}
              height="100%"
            />
          </div>
        )}
      </Stack>
      <Suspense>{wasOpened.current && <AdapterDrawer id={id} onClose={() => change({ id: undefined })} />}</Suspense>
    </div>
  );
}

/** Without the suffix that nearly every row would repeat; the whole name is in the tooltip and beside the list. */
function stemOf(name: string): string {
  return name.replace(/\.safetensors$/, "");
}

/** The search's state as the server's parameters; "-" in a link stands for "not stated". */
export function filtersOf(search: Record<string, unknown>): LibraryFilters {
  const filters: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(search)) {
    if (value === undefined || name === "id") continue;
    filters[name] = Array.isArray(value) ? value.map((one) => (one === "-" ? "" : one)) : value;
  }
  if (typeof filters.sort === "string" && !SORTS.includes(filters.sort)) filters.sort = undefined;
  if (Array.isArray(filters.problems))
    filters.problems = filters.problems.filter((one) => ["error", "warning", "none", "duplicate"].includes(one));
  return filters as LibraryFilters;
}

function SearchBox({ value, onChange }: { value?: string; onChange: (words?: string) => void }) {
  const [words, setWords] = useState(value ?? "");
  const tell = useDebouncedCallback((next: string) => onChange(next.trim() || undefined), 150);
  useEffect(() => setWords(value ?? ""), [value]);
  return (
    <TextInput
      aria-label="Search names, tags and trigger words"
      placeholder="Name, tag, trigger word"
      value={words}
      flex="0 1 280px"
      miw={0}
      onChange={(event) => {
        setWords(event.currentTarget.value);
        tell(event.currentTarget.value);
      }}
    />
  );
}

function columnsOf(chosen: ReadonlyMap<string, AdapterRow>, toggle: (row: AdapterRow) => void): Column<AdapterRow>[] {
  return [
    {
      id: "select",
      title: "Selected",
      hideTitle: true,
      width: 42,
      rich: true,
      cell: (row) => (
        <input
          type="checkbox"
          aria-label={`Select ${printable(row.name)}`}
          checked={chosen.has(row.id)}
          onChange={() => toggle(row)}
          tabIndex={-1}
        />
      ),
    },
    {
      id: "name",
      title: "Name",
      width: 230,
      grow: true,
      sortable: true,
      cell: (row) => (
        <span title={printable([row.folder, row.name].filter(Boolean).join("/"))}>
          <b style={{ fontWeight: 600 }}>{printable(stemOf(row.name))}</b>
          {row.title && row.title !== row.name && (
            <span style={{ color: "var(--mantine-color-dimmed)" }}> {printable(row.title)}</span>
          )}
        </span>
      ),
    },
    { id: "problems", title: "Health", width: 104, sortable: true, cell: (row) => <Problems row={row} /> },
    {
      id: "base_model",
      title: "Base model",
      width: 150,
      sortable: true,
      cell: (row) => printable(row.base_model_label ?? row.base_model ?? "–"),
    },
    {
      id: "algorithm",
      title: "Algorithm",
      width: 96,
      sortable: true,
      cell: (row) => (row.algorithm ? row.algorithm + (row.dora ? " + DoRA" : "") : "–"),
    },
    { id: "rank", title: "Rank", width: 72, right: true, sortable: true, cell: (row) => rankText(row) },
    { id: "alpha", title: "Alpha", width: 68, right: true, sortable: true, cell: (row) => row.alpha ?? "–" },
    { id: "parameters", title: "Params", width: 82, right: true, sortable: true, cell: (row) => short(row.parameters) },
    { id: "size", title: "Size", width: 86, right: true, sortable: true, cell: (row) => bytes(row.size_bytes) },
    { id: "dtype", title: "Type", width: 60, cell: (row) => row.dtype ?? "–" },
    {
      id: "tags",
      title: "Top tags",
      width: 120,
      grow: true,
      cell: (row) =>
        printable(
          row.top_tags
            .slice(0, 4)
            .map(({ tag }) => tag)
            .join(", "),
        ) || "–",
    },
    {
      id: "modified",
      title: "Modified",
      width: 136,
      sortable: true,
      cell: (row) => <span className="num">{date(row.modified_at)}</span>,
    },
  ];
}

function Selection({ chosen, clear }: { chosen: ReadonlyMap<string, AdapterRow>; clear: () => void }) {
  const navigate = useNavigate();
  const rows = [...chosen.values()];
  const ids = rows.map((row) => row.id);
  const pin = () => {
    const left = rows.filter((row) => !tray.pin({ id: row.id, name: row.name }));
    if (left.length)
      failed("The tray is full", new Error(`it holds eight; ${left.length} of ${rows.length} did not fit`));
  };
  const table = () => ({
    columns: ["name", "base_model", "algorithm", "rank_min", "rank_max", "alpha", "parameters", "size_bytes", "dtype"],
    rows: rows.map((row) => [
      row.name,
      row.base_model,
      row.algorithm,
      row.rank?.min,
      row.rank?.max,
      row.alpha,
      row.parameters,
      row.size_bytes,
      row.dtype,
    ]),
  });
  return (
    <Alert variant="light" py={6} role="region" aria-label="Selected adapters">
      <Group gap="xs">
        <Badge variant="filled">{rows.length} selected</Badge>
        <Button size="compact-sm" variant="default" onClick={pin}>
          Pin
        </Button>
        <CombineButtons ids={ids} />
        <Button
          size="compact-sm"
          variant="default"
          disabled={ids.length !== 1}
          onClick={() => void navigate({ to: "/resize", search: { id: ids[0] } })}
        >
          Resize
        </Button>
        <Button
          size="compact-sm"
          variant="default"
          onClick={() => save("library.csv", toCsv(table()), "text/csv;charset=utf-8")}
        >
          CSV
        </Button>
        <Button
          size="compact-sm"
          variant="default"
          onClick={() => save("library.json", `${JSON.stringify(rows, null, 2)}\n`, "application/json")}
        >
          JSON
        </Button>
        <Button
          size="compact-sm"
          variant="subtle"
          color="gray"
          leftSection={<IconX size={14} aria-hidden />}
          onClick={clear}
        >
          Clear <VisuallyHidden>the selection</VisuallyHidden>
        </Button>
      </Group>
    </Alert>
  );
}

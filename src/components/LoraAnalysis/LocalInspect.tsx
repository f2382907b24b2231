import { Alert, Badge, Button, Group, Progress, Stack, Tabs, Text, Title } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useRef, useState } from "react";
import { upload } from "../../api/client";
import { INSPECT_TABS } from "../../app/router";
import { save } from "../../lib/export";
import { bytes, count, fileStem, printable } from "../../lib/format";
import { type HeaderSummary, type ModuleRow, summarise } from "../../lib/header";
import { localFile } from "../../lib/localFile";
import { type Header, readHeader } from "../../lib/safetensors";
import { ColumnChart } from "../ui/BarChart";
import { Figure } from "../ui/Figure";
import { type LocalColumn, LocalTable } from "../ui/LocalTable";
import { Empty, ErrorState, Waiting } from "../ui/states";
import { MetadataTab } from "./MetadataTab";
import { Card, Facts } from "./OverviewTab";
import { TagsTab } from "./TagsTab";

interface Found {
  header: Header;
  summary: HeaderSummary;
  milliseconds: number;
}

const COLUMNS: LocalColumn<ModuleRow>[] = [
  {
    id: "name",
    title: "Module",
    width: 340,
    grow: true,
    value: (row) => row.name,
    cell: (row) => <span className="mono">{printable(row.name)}</span>,
  },
  { id: "rank", title: "Rank", width: 70, right: true, value: (row) => row.rank, cell: (row) => row.rank ?? "–" },
  { id: "shape", title: "Factors", width: 240, value: (row) => row.shape, cell: (row) => row.shape || "scalar" },
  { id: "dtype", title: "Type", width: 76, value: (row) => row.dtype, cell: (row) => row.dtype },
  { id: "tensors", title: "Tensors", width: 80, right: true, value: (row) => row.tensors, cell: (row) => row.tensors },
  {
    id: "parameters",
    title: "Params",
    width: 96,
    right: true,
    value: (row) => row.parameters,
    cell: (row) => count(row.parameters),
  },
  { id: "bytes", title: "Bytes", width: 90, right: true, value: (row) => row.bytes, cell: (row) => bytes(row.bytes) },
];

/** A file from the reader's own disk: its header is read here, and nothing is sent anywhere until that is asked for. */
export function LocalInspect({ file }: { file: File }) {
  const search = useSearch({ from: "/inspect" });
  const navigate = useNavigate({ from: "/inspect" });
  const found = useQuery({
    queryKey: ["local", file.name, file.size, file.lastModified],
    queryFn: async (): Promise<Found> => {
      const began = performance.now();
      const header = await readHeader(file);
      return { header, summary: summarise(header), milliseconds: performance.now() - began };
    },
    retry: false,
    staleTime: Number.POSITIVE_INFINITY,
  });
  const tab = search.tab ?? "overview";
  return (
    <Stack gap="md">
      <Group justify="space-between" align="flex-start">
        <div>
          <Title order={1} size="h3" className="breakable">
            {printable(found.data?.summary.title ?? file.name)}
          </Title>
          <Group gap="xs" mt={6}>
            <Text size="sm" c="dimmed" className="breakable">
              {printable(file.name)}
            </Text>
            <Badge variant="light" color="gray" tt="none">
              {bytes(file.size)}
            </Badge>
            {found.data && (
              <Badge variant="light" color="teal" tt="none" data-testid="header-time">
                header read in the page in {Math.max(1, Math.round(found.data.milliseconds))} ms
              </Badge>
            )}
          </Group>
        </div>
        <UploadButton file={file} />
      </Group>
      {found.isPending && <Waiting what="Reading the header" />}
      {found.isError && (
        <>
          <ErrorState error={found.error} title="The page cannot read this file" />
          <Text size="sm">
            Other kinds of files (.pt, .gguf, folders) are read by the server: add the file to the library.
          </Text>
        </>
      )}
      {found.data && (
        <Tabs
          value={tab}
          onChange={(next) =>
            void navigate({
              search: (before) => ({ ...before, tab: INSPECT_TABS.find((one) => one === next) }),
              replace: true,
            })
          }
          keepMounted={false}
        >
          <Tabs.List mb="md">
            <Tabs.Tab value="overview">Overview</Tabs.Tab>
            <Tabs.Tab value="tags">Tags</Tabs.Tab>
            <Tabs.Tab value="modules">Modules</Tabs.Tab>
            <Tabs.Tab value="metadata">Raw metadata</Tabs.Tab>
          </Tabs.List>
          <Tabs.Panel value="overview">
            <LocalOverview found={found.data} file={file} />
          </Tabs.Panel>
          <Tabs.Panel value="tags">
            <TagsTab subject={file.name} metadata={found.data.header.metadata} />
          </Tabs.Panel>
          <Tabs.Panel value="modules">
            <LocalTable
              label="Modules"
              columns={COLUMNS}
              rows={found.data.summary.modules}
              rowKey={(row) => row.name}
              height="calc(100dvh - 240px)"
            />
          </Tabs.Panel>
          <Tabs.Panel value="metadata">
            <MetadataTab metadata={found.data.header.metadata} />
          </Tabs.Panel>
        </Tabs>
      )}
    </Stack>
  );
}

function LocalOverview({ found, file }: { found: Found; file: File }) {
  const { header, summary } = found;
  const m = header.metadata;
  const bars = summary.ranks.map(([rank, value]) => ({ name: String(rank), value }));
  const known = useMemo(() => (text: string | undefined) => (text && text !== "None" ? printable(text) : null), []);
  return (
    <div className="halves">
      <Card title="Header">
        <Facts
          rows={[
            ["Title", known(m["modelspec.title"])],
            ["Output name", known(m.ss_output_name)],
            ["Base model", known(m.ss_base_model_version) ?? known(m["modelspec.architecture"]) ?? known(m.base_model)],
            ["Checkpoint", known(m.ss_sd_model_name)],
            ["Network", known(m.ss_network_module)],
            ["Rank stated", known(m.ss_network_dim)],
            ["Alpha stated", known(m.ss_network_alpha)],
            ["Steps", known(m.ss_steps)],
            ["Epoch", known(m.ss_epoch)],
            ["Learning rate", known(m.ss_learning_rate)],
            ["Optimizer", known(m.ss_optimizer)],
            ["Author", known(m["modelspec.author"])],
            ["License", known(m["modelspec.license"])],
          ]}
          empty="The header has no metadata."
        />
        <Button
          mt="md"
          size="sm"
          variant="default"
          onClick={() =>
            save(`${fileStem(file.name)}.metadata.json`, `${JSON.stringify(m, null, 2)}\n`, "application/json")
          }
        >
          Metadata JSON
        </Button>
      </Card>
      <Card title="Tensors">
        <Facts
          rows={[
            ["Modules", count(summary.modules.length)],
            ["Tensors", count(header.tensors.length)],
            ["Parameters", count(summary.parameters)],
            ["Types", summary.dtypes.map(([dtype, n]) => `${dtype} (${count(n)} values)`).join(", ")],
            ["Header", bytes(header.headerBytes)],
          ]}
        />
        <Alert mt="md" variant="light" color="gray">
          <Text size="sm" c="var(--mantine-color-text)">
            This is what the header alone shows. Dialect, base model by its keys, problems and spectra are the server's
            work: add the file to the library.
          </Text>
        </Alert>
      </Card>
      {bars.length > 0 && (
        <Figure
          title="Ranks"
          subject={file.name}
          help="How many modules have which rank, by the shape of their down factor."
          table={() => ({ columns: ["rank", "modules"], rows: summary.ranks })}
        >
          <ColumnChart
            label={`Modules per rank: ${bars.map(({ name, value }) => `${value} of rank ${name}`).join(", ")}`}
            bars={bars}
            x="rank"
            y="modules"
            height={220}
          />
        </Figure>
      )}
      {bars.length === 0 && <Empty title="No ranks to see">No module is named as LoRA factors are.</Empty>}
    </div>
  );
}

function UploadButton({ file }: { file: File }) {
  const navigate = useNavigate();
  const [fraction, setFraction] = useState<number | null>(null);
  const stop = useRef<AbortController>(null);
  const send = useMutation({
    mutationFn: () => {
      stop.current = new AbortController();
      return upload(file, setFraction, stop.current.signal);
    },
    meta: { failure: "The file was not added", success: `${printable(file.name)} is in the library` },
    onSuccess: (made) => {
      localFile.set(null);
      if ("root" in made) void navigate({ to: "/inspect", search: { id: made.id } });
      else void navigate({ to: "/jobs", search: { job: made.id } });
    },
    onSettled: () => setFraction(null),
  });
  if (send.isPending) {
    return (
      <Group gap="sm" wrap="nowrap">
        <Progress w={180} value={100 * (fraction ?? 0)} aria-label="Upload" />
        <Button size="sm" variant="default" onClick={() => stop.current?.abort()}>
          Stop
        </Button>
      </Group>
    );
  }
  return (
    <Button size="sm" onClick={() => send.mutate()}>
      Add to the library
    </Button>
  );
}

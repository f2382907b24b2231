import { Badge, Button, FileButton, Group, Stack, Tabs, Text, Title } from "@mantine/core";
import { IconFileSearch } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useSyncExternalStore } from "react";
import { fileAddress } from "../../api/client";
import { adapterRow, metadata } from "../../api/queries";
import { failed } from "../../app/notices";
import { INSPECT_TABS } from "../../app/router";
import { save } from "../../lib/export";
import { bytes, count, fileStem, printable, rankText } from "../../lib/format";
import { localFile } from "../../lib/localFile";
import { tray } from "../../lib/tray";
import { Empty, ErrorState, Waiting } from "../ui/states";
import { AdapterPicker } from "./AdapterPicker";
import { HealthTab } from "./HealthTab";
import { LayersTab } from "./LayersTab";
import { LocalInspect } from "./LocalInspect";
import { MetadataTab } from "./MetadataTab";
import { OverviewTab } from "./OverviewTab";
import { ReportButton } from "./ReportButton";
import { ShownJob } from "./Screen";
import { TagsTab } from "./TagsTab";
import { VerifyButton } from "./VerifyButton";

export default function Inspect() {
  const search = useSearch({ from: "/inspect" });
  const file = useSyncExternalStore(localFile.subscribe, localFile.get);
  if (search.local && file) return <LocalInspect key={`${file.name} ${file.size} ${file.lastModified}`} file={file} />;
  if (search.id) return <KnownInspect id={search.id} />;
  return <Choose wasLocal={Boolean(search.local)} />;
}

function Choose({ wasLocal }: { wasLocal: boolean }) {
  const navigate = useNavigate();
  const open = (file: File | null) => {
    if (!file) return;
    localFile.set(file);
    void navigate({ to: "/inspect", search: { local: true } });
  };
  return (
    <Empty
      title={wasLocal ? "The page was loaded anew" : "What is inside?"}
      icon={<IconFileSearch size={42} stroke={1.3} aria-hidden />}
    >
      <Text size="sm">
        {wasLocal
          ? "A page cannot keep a file of yours over a reload. Drop it again, "
          : "Drop a .safetensors file anywhere: its header is read in the page, nothing is uploaded. Or "}
        choose an adapter of the library.
      </Text>
      <FileButton onChange={open} accept=".safetensors,.sft,.pt,.bin,.ckpt,.pth,.gguf">
        {(props) => (
          <Button variant="default" {...props}>
            Open a file
          </Button>
        )}
      </FileButton>
      <div className="picker" style={{ textAlign: "left" }}>
        <AdapterPicker
          label="From the library"
          onChange={(row) => void navigate({ to: "/inspect", search: { id: row.id } })}
        />
      </div>
    </Empty>
  );
}

function KnownInspect({ id }: { id: string }) {
  const search = useSearch({ from: "/inspect" });
  const navigate = useNavigate({ from: "/inspect" });
  const row = useQuery(adapterRow(id));
  const found = useQuery(metadata(id));
  const tab = search.tab ?? "overview";
  const data = row.data;
  const isBroken = Boolean(data?.error);
  const pin = () => {
    if (data && !tray.pin({ id, name: data.name }))
      failed("The tray is full", new Error("it holds eight; unpin one first"));
  };
  if (row.isError) return <ErrorState error={row.error} title="This adapter is not in the library" />;
  return (
    <Stack gap="md">
      <Group justify="space-between" align="flex-start">
        <div>
          <Title order={1} size="h3" className="breakable">
            {data ? printable(data.title || data.name) : "…"}
          </Title>
          <Group gap="xs" mt={6}>
            {data && (
              <Text size="sm" c="dimmed" className="breakable">
                {printable(data.name)}
              </Text>
            )}
            {data?.base_model && <Badge variant="light">{printable(data.base_model_label ?? data.base_model)}</Badge>}
            {data?.algorithm && (
              <Badge variant="light" color="gray">
                {data.algorithm}
                {data.dora ? " + DoRA" : ""}
              </Badge>
            )}
            {data?.rank && (
              <Badge variant="light" color="gray">
                rank {rankText(data)}
              </Badge>
            )}
            {data?.dtype && (
              <Badge variant="light" color="gray">
                {data.dtype}
              </Badge>
            )}
            {data && (
              <Badge variant="light" color="gray" tt="none">
                {bytes(data.size_bytes)}
              </Badge>
            )}
            {data && (
              <Badge variant="light" color="gray" tt="none">
                {count(data.parameters)} parameters
              </Badge>
            )}
          </Group>
        </div>
        <Group gap="xs">
          <Button size="sm" disabled={isBroken} onClick={() => void navigate({ to: "/spectrum", search: { id } })}>
            Spectrum
          </Button>
          <Button
            size="sm"
            variant="default"
            disabled={isBroken}
            onClick={() => void navigate({ to: "/resize", search: { id } })}
          >
            Resize
          </Button>
          <Button size="sm" variant="default" onClick={pin} disabled={!data || isBroken}>
            Pin
          </Button>
          <VerifyButton id={id} />
          <ReportButton id={id} />
          {data?.kind === "file" && (
            <Button size="sm" variant="default" component="a" href={fileAddress(id)} download>
              Download
            </Button>
          )}
          <Button
            size="sm"
            variant="default"
            disabled={!found.data}
            onClick={() =>
              save(
                `${fileStem(data?.name ?? "adapter")}.inspect.json`,
                `${JSON.stringify(found.data, null, 2)}\n`,
                "application/json",
              )
            }
          >
            Metadata JSON
          </Button>
        </Group>
      </Group>
      <ShownJob />
      {found.isPending && <Waiting what="Reading headers" />}
      {found.isError && (
        <ErrorState error={found.error} title="This file cannot be read" retry={() => void found.refetch()} />
      )}
      {found.data && (
        <Tabs
          value={tab}
          onChange={(next) =>
            void navigate({
              search: (before) => ({ ...before, tab: INSPECT_TABS.find((one) => one === next), find: undefined }),
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
            <Tabs.Tab
              value="health"
              rightSection={
                <Badge size="xs" variant="light" color={found.data.validation_info.is_valid ? "gray" : "red"}>
                  {found.data.validation_info.findings.length}
                </Badge>
              }
            >
              Health
            </Tabs.Tab>
          </Tabs.List>
          <Tabs.Panel value="overview">
            <OverviewTab found={found.data} />
          </Tabs.Panel>
          <Tabs.Panel value="tags">
            <TagsTab
              subject={data?.name ?? "adapter"}
              metadata={(found.data.model_info.all_metadata ?? {}) as Record<string, string>}
              frequencies={found.data.training_info.tag_frequencies as Record<string, number> | null}
            />
          </Tabs.Panel>
          <Tabs.Panel value="modules">
            <LayersTab id={id} subject={data?.name ?? "adapter"} />
          </Tabs.Panel>
          <Tabs.Panel value="metadata">
            <MetadataTab
              metadata={(found.data.model_info.all_metadata ?? {}) as Record<string, unknown>}
              extra={found.data.model_info.adapter_config as Record<string, unknown> | null}
            />
          </Tabs.Panel>
          <Tabs.Panel value="health">
            <HealthTab findings={found.data.validation_info.findings} />
          </Tabs.Panel>
        </Tabs>
      )}
    </Stack>
  );
}

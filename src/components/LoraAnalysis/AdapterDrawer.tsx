import { Badge, Button, Drawer, Group, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { fileAddress } from "../../api/client";
import { adapterRow } from "../../api/queries";
import { failed } from "../../app/notices";
import { bytes, count, fileStem, printable, rankText } from "../../lib/format";
import { tray } from "../../lib/tray";
import { BarList } from "../ui/BarChart";
import { Copy } from "../ui/Copy";
import { ErrorState, Waiting } from "../ui/states";
import { Problems } from "./Problems";

/** One adapter beside the list: what decides whether to open it. */
export function AdapterDrawer({ id, onClose }: { id?: string; onClose: () => void }) {
  const row = useQuery({ ...adapterRow(id ?? ""), enabled: Boolean(id) });
  const navigate = useNavigate();
  const data = row.data;
  const pin = () => {
    if (data && !tray.pin({ id: data.id, name: data.name }))
      failed("The tray is full", new Error("it holds eight; unpin one first"));
  };
  return (
    <Drawer
      opened={Boolean(id)}
      onClose={onClose}
      position="right"
      size="md"
      title={data ? <b className="breakable">{printable(data.name)}</b> : "Adapter"}
      overlayProps={{ backgroundOpacity: 0.25 }}
    >
      {row.isPending && <Waiting what="Reading the catalog" />}
      {row.isError && <ErrorState error={row.error} title="This adapter is not in the library" />}
      {data && (
        <Stack>
          <Group gap="xs">
            {data.base_model && <Badge variant="light">{printable(data.base_model_label ?? data.base_model)}</Badge>}
            {data.algorithm && (
              <Badge variant="light" color="gray">
                {data.algorithm}
              </Badge>
            )}
            {data.rank && (
              <Badge variant="light" color="gray">
                rank {rankText(data)}
              </Badge>
            )}
            <Problems row={data} />
          </Group>
          {data.error && <ErrorState error={new Error(data.error.message)} title="This file cannot be read" />}
          <Group gap="xs">
            <Button
              size="sm"
              disabled={data.error !== null}
              onClick={() => void navigate({ to: "/inspect", search: { id: data.id } })}
            >
              Inspect
            </Button>
            <Button
              size="sm"
              variant="default"
              disabled={data.error !== null}
              onClick={() => void navigate({ to: "/spectrum", search: { id: data.id } })}
            >
              Spectrum
            </Button>
            <Button
              size="sm"
              variant="default"
              disabled={data.error !== null}
              onClick={() => void navigate({ to: "/resize", search: { id: data.id } })}
            >
              Resize
            </Button>
            <Button size="sm" variant="default" disabled={data.error !== null} onClick={pin}>
              Pin
            </Button>
            {data.kind === "file" && (
              <Button size="sm" variant="default" component="a" href={fileAddress(data.id)} download>
                Download
              </Button>
            )}
          </Group>
          <dl className="facts">
            <dt>Title</dt>
            <dd>{printable(data.title ?? "–")}</dd>
            <dt>Size</dt>
            <dd>
              {bytes(data.size_bytes)} · {count(data.parameters)} parameters · {data.dtype ?? "–"}
            </dd>
            <dt>Layers</dt>
            <dd>{count(data.layers)}</dd>
            <dt>Trainer</dt>
            <dd>{printable(data.trainer ?? "not stated")}</dd>
            <dt>Key names</dt>
            <dd>{data.dialect ?? "–"}</dd>
            <dt>Folder</dt>
            <dd className="breakable">{printable([data.root, data.folder].filter(Boolean).join("/"))}</dd>
            {data.autov3 && (
              <>
                <dt>AutoV3</dt>
                <dd>
                  <span className="mono">{data.autov3}</span> <Copy value={data.autov3} label="Copy AutoV3" />
                </dd>
              </>
            )}
          </dl>
          <Group gap="xs" align="center">
            <Text size="sm" c="dimmed">
              Prompt
            </Text>
            <code className="mono">{`<lora:${fileStem(data.name)}:0.8>`}</code>
            <Copy value={`<lora:${fileStem(data.name)}:0.8>`} label="Copy the prompt tag" />
          </Group>
          {data.trigger && (
            <Group gap="xs">
              <Text size="sm" c="dimmed">
                Trigger
              </Text>
              <Badge variant="outline" tt="none">
                {printable(data.trigger)}
              </Badge>
              <Copy value={data.trigger} label="Copy the trigger words" />
            </Group>
          )}
          {data.top_tags.length > 0 && (
            <div>
              <Group justify="space-between" mb={6}>
                <Title order={3} size="h6">
                  Tags
                </Title>
                <Copy value={data.top_tags.map(({ tag }) => tag).join(", ")} label="Copy the tags" />
              </Group>
              <BarList
                bars={data.top_tags.slice(0, 12).map(({ tag, count: value }) => ({ name: printable(tag), value }))}
                format={count}
              />
            </div>
          )}
        </Stack>
      )}
    </Drawer>
  );
}

import { Badge, Group, Paper, Text, Title } from "@mantine/core";
import type { ReactNode } from "react";
import type { Schemas } from "../../api/client";
import { bytes, count, date, number, printable, seconds } from "../../lib/format";
import { ColumnChart } from "../ui/BarChart";
import { Copy } from "../ui/Copy";
import { Figure } from "../ui/Figure";

type Block = Record<string, unknown>;

/** What the headers say: about the model, its training, and its structure. */
export function OverviewTab({ found }: { found: Schemas["Inspection"] }) {
  const model = found.model_info as Block;
  const training = found.training_info as Block;
  const structure = found.architecture_info as Block;
  const subject = String((found.file_info as Block).filename ?? "adapter");
  return (
    <div className="halves">
      <Card title="Model">
        <Facts
          rows={[
            ["Title", words(model.title ?? model.output_name)],
            ["Base model", <BaseModel key="base" structure={structure} model={model} />],
            ["Author", words(model.author)],
            ["License", words(model.license)],
            ["Date", model.date ? date(String(model.date)) : null],
            ["Description", words(model.description)],
            ["Trigger", withCopy(model.trigger_phrase, "Copy the trigger words")],
            ["How to use", words(model.usage_hint)],
            ["Comment", words(model.comment)],
            ["Key names", words(model.format)],
            ["AutoV3 (stated)", withCopy(model.embedded_autov3, "Copy AutoV3")],
            ["Size", bytes((found.file_info as { file_size_bytes?: number }).file_size_bytes)],
          ]}
        />
      </Card>
      <Card title="Training">
        <Facts
          rows={[
            ["Trainer", words(training.trainer)],
            ["Steps", pair(training.steps, training.max_steps)],
            ["Epochs", pair(training.epoch, training.num_epochs)],
            ["Learning rate", rates(training)],
            ["Optimizer", words(training.optimizer)],
            ["Scheduler", words(training.scheduler)],
            ["Batch size", words(training.batch_size)],
            [
              "Images",
              typeof training.distinct_images === "number"
                ? `${count(training.distinct_images)} distinct, ${count(training.images as number)} with repeats`
                : words(training.images),
            ],
            [
              "Resolution",
              Array.isArray(training.resolution) ? training.resolution.join(" × ") : words(training.resolution),
            ],
            ["Precision", words(training.mixed_precision)],
            ["Seed", words(training.seed)],
            ["Noise offset", words(training.noise_offset)],
            ["Min-SNR gamma", words(training.min_snr_gamma)],
            ["Took", typeof training.training_seconds === "number" ? seconds(training.training_seconds) : null],
          ]}
          empty="The header says nothing about its training."
        />
      </Card>
      <Card title="Structure">
        <Facts
          rows={[
            ["Algorithm", words(structure.algorithm)],
            [
              "Layers",
              typeof structure.layers === "number"
                ? `${count(structure.layers)}${structure.convolutions ? `, ${count(structure.convolutions as number)} of them convolutions` : ""}`
                : null,
            ],
            ["Parameters", typeof structure.parameters === "number" ? count(structure.parameters) : null],
            ["Scale", distribution(structure.scale_distribution, (key) => `× ${key}`)],
            ["Alpha from", distribution(structure.scale_origins)],
            ["Components", distribution(structure.components)],
            ["Kinds", distribution(structure.layer_kinds)],
            ["Modules", distribution(structure.target_module_layers)],
          ]}
        />
      </Card>
      <RankFigure subject={subject} ranks={(structure.rank_distribution ?? {}) as Record<string, number>} />
    </div>
  );
}

function RankFigure({ subject, ranks }: { subject: string; ranks: Record<string, number> }) {
  const bars = Object.entries(ranks)
    .map(([name, value]) => ({ name, value }))
    .sort((a, b) => Number(a.name) - Number(b.name));
  if (bars.length === 0) return null;
  return (
    <Figure
      title="Ranks"
      subject={subject}
      help="How many layers have which rank, as stored."
      table={() => ({ columns: ["rank", "layers"], rows: bars.map(({ name, value }) => [Number(name), value]) })}
    >
      <ColumnChart
        label={`Layers per rank: ${bars.map(({ name, value }) => `${value} of rank ${name}`).join(", ")}`}
        bars={bars}
        x="rank"
        y="layers"
        height={220}
      />
    </Figure>
  );
}

export function Card({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Paper component="section" withBorder p="md" aria-label={title}>
      <Title order={2} size="h5" mb="sm">
        {title}
      </Title>
      {children}
    </Paper>
  );
}

/** Rows without a value are left out: a page of dashes says less than a short one. */
export function Facts({ rows, empty = "Nothing is stated." }: { rows: [string, ReactNode][]; empty?: string }) {
  const stated = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  if (stated.length === 0)
    return (
      <Text size="sm" c="dimmed">
        {empty}
      </Text>
    );
  return (
    <dl className="facts">
      {stated.map(([name, value]) => (
        <div key={name} style={{ display: "contents" }}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function BaseModel({ structure, model }: { structure: Block; model: Block }) {
  const base = structure.base_model as { family?: string | null; evidence?: string | null; conflict?: boolean } | null;
  if (!base?.family && !model.base_model) return <>not known</>;
  return (
    <>
      <b>{printable(base?.family ?? "")}</b> {model.base_model ? printable(String(model.base_model)) : ""}
      {base?.conflict && (
        <Badge color="red" variant="light" size="sm" ml={6}>
          keys and header disagree
        </Badge>
      )}
      {base?.evidence && (
        <Text size="xs" c="dimmed">
          {printable(base.evidence)}
        </Text>
      )}
    </>
  );
}

function words(value: unknown): string | null {
  if (value === null || value === undefined || value === "") return null;
  if (typeof value === "number") return number(value, 6);
  return printable(typeof value === "string" ? value : JSON.stringify(value));
}

function withCopy(value: unknown, label: string): ReactNode {
  const text = words(value);
  return text ? (
    <Group gap={4}>
      <span>{text}</span>
      <Copy value={text} label={label} />
    </Group>
  ) : null;
}

function pair(done: unknown, all: unknown): string | null {
  if (typeof done === "number" && typeof all === "number" && done !== all) return `${count(done)} of ${count(all)}`;
  return words(done ?? all);
}

function rates(training: Block): string | null {
  const named = [
    ["", training.learning_rate],
    ["UNet ", training.unet_lr],
    ["text encoder ", training.text_encoder_lr],
  ].filter(([, value]) => typeof value === "number");
  return named.length ? named.map(([name, value]) => `${name}${number(value as number)}`).join(", ") : null;
}

function distribution(value: unknown, name: (key: string) => string = (key) => key): string | null {
  if (typeof value !== "object" || value === null) return null;
  const entries = Object.entries(value as Record<string, number>);
  if (entries.length === 0) return null;
  if (entries.length === 1) return printable(name(entries[0]![0]));
  return entries.map(([key, n]) => `${printable(name(key))} (${count(n)})`).join(", ");
}

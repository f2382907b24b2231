import { Alert, Badge, Stack, Text } from "@mantine/core";
import type { ReactNode } from "react";
import type { Table } from "../../lib/export";
import { bytes, count, percent, printable } from "../../lib/format";
import { Figure } from "../ui/Figure";
import { type LocalColumn, LocalTable, type LocalTableProps } from "../ui/LocalTable";

/** What a line of any plan says. */
interface PlanRow {
  layer: string;
}

interface PlanFigureProps<Row extends PlanRow> {
  subject: string;
  help: string;
  notes: string[];
  rows: Row[];
  columns: LocalColumn<Row>[];
  table: () => Table;
  /** Of other choices than those in the form. */
  isStale: boolean;
  /** Figures of the whole, above the layers. */
  children: ReactNode;
  options?: Partial<LocalTableProps<Row>>;
}

/** A plan before it is written, whatever it is for: figures of the whole, what to know about it, every layer. */
export function PlanFigure<Row extends PlanRow>(props: PlanFigureProps<Row>) {
  const { subject, help, notes, rows, columns, table, isStale, children, options } = props;
  return (
    <Figure
      title="Plan"
      subject={subject}
      help={help}
      table={table}
      controls={
        isStale ? (
          <Badge variant="light" color="gray">
            being brought up to date
          </Badge>
        ) : undefined
      }
    >
      <Stack gap="sm">
        {children}
        {notes.map((note) => (
          <PlanNote key={note}>{printable(note)}</PlanNote>
        ))}
        <LocalTable
          label="Plan by layer"
          columns={columns}
          rows={rows}
          rowKey={(row) => row.layer}
          height={340}
          {...options}
        />
      </Stack>
    </Figure>
  );
}

export function PlanNote({ title, children }: { title?: string; children: ReactNode }) {
  return (
    <Alert variant="light" color="orange" p="xs" title={title}>
      <Text size="sm" className="breakable" c="var(--mantine-color-text)">
        {children}
      </Text>
    </Alert>
  );
}

/** Parts that are not in the result, each with the reason; the first few of many. */
export function LeftOut({ parts, what }: { parts: Record<string, unknown>[]; what: string }) {
  if (parts.length === 0) return null;
  return (
    <PlanNote title={`${count(parts.length)} parts ${what}`}>
      {parts.slice(0, 5).map((one, at) => (
        <span key={at} style={{ display: "block" }}>
          {printable(`${one.name}: ${one.reason}`)}
        </span>
      ))}
      {parts.length > 5 && `and ${count(parts.length - 5)} more`}
    </PlanNote>
  );
}

export const layerColumn = <Row extends PlanRow>(why?: (row: Row) => string | null | undefined): LocalColumn<Row> => ({
  id: "layer",
  title: "Layer",
  width: 300,
  grow: true,
  value: (row) => row.layer,
  cell: (row) => (
    <span className="mono" title={printable(why?.(row) ?? "")}>
      {printable(row.layer)}
    </span>
  ),
});

export const rankColumn = <Row extends PlanRow>(
  id: string,
  title: string,
  rank: (row: Row) => number | null | undefined,
): LocalColumn<Row> => ({
  id,
  title,
  width: 42 + 7 * title.length,
  right: true,
  value: rank,
  cell: (row) => rank(row) ?? "–",
});

export const errorColumn: LocalColumn<{ relative_error: number | null }> = {
  id: "error",
  title: "Error",
  width: 88,
  right: true,
  value: (row) => row.relative_error,
  cell: (row) => percent(row.relative_error, 2),
};

export const bytesColumn: LocalColumn<{ bytes: number }> = {
  id: "bytes",
  title: "Bytes",
  width: 90,
  right: true,
  value: (row) => row.bytes,
  cell: (row) => bytes(row.bytes),
};

/** Of counts by rank: the smallest and the largest. */
export function distribution(ranks: Record<string, number>): string {
  const found = Object.keys(ranks)
    .map(Number)
    .sort((a, b) => a - b);
  if (found.length === 0) return "–";
  return found.length === 1 ? String(found[0]) : `${found[0]}–${found.at(-1)}`;
}

import {
  createSortedRowModel,
  rowSortingFeature,
  sortFn_alphanumeric,
  sortFn_basic,
  tableFeatures,
  useTable,
} from "@tanstack/react-table";
import { useMemo, useState } from "react";
import { type Column, type Sort, VirtualTable } from "./VirtualTable";

const features = tableFeatures({
  rowSortingFeature,
  sortedRowModel: createSortedRowModel(),
  sortFns: { alphanumeric: sortFn_alphanumeric, basic: sortFn_basic },
});

export interface LocalColumn<Row> extends Column<Row> {
  /** What the column is sorted by; without one it is not. */
  value?: (row: Row) => string | number | null | undefined;
}

export interface LocalTableProps<Row> {
  label: string;
  columns: LocalColumn<Row>[];
  rows: Row[];
  rowKey: (row: Row, index: number) => string;
  initial?: Sort;
  onOpen?: (row: Row) => void;
  onToggle?: (row: Row) => void;
  isSelected?: (row: Row) => boolean;
  height?: number | string;
}

/** How a column is sorted. Digits in texts count as whole numbers there, so numbers themselves must not be texts. */
export function orderOf<Row>(rows: Row[], value: LocalColumn<Row>["value"]): "basic" | "alphanumeric" {
  return rows.some((row) => typeof value?.(row) === "number") ? "basic" : "alphanumeric";
}

/** A table whose rows are all here: sorted in the page, drawn where it is in sight. */
export function LocalTable<Row>({
  label,
  columns,
  rows,
  rowKey,
  initial,
  onOpen,
  onToggle,
  isSelected,
  height,
}: LocalTableProps<Row>) {
  const [sort, setSort] = useState<Sort | undefined>(initial);
  const defined = useMemo(
    () =>
      columns.map((column) => ({
        id: column.id,
        header: column.title,
        accessorFn: (row: Row) => column.value?.(row) ?? undefined,
        sortFn: orderOf(rows, column.value),
        sortUndefined: "last" as const,
      })),
    [columns, rows],
  );
  const sorting = useMemo(() => (sort ? [{ id: sort.id, desc: sort.descending }] : []), [sort]);
  const table = useTable({ features, columns: defined as never, data: rows as never[], state: { sorting } as never });
  const sorted = table.getRowModel().rows as unknown as { original: Row }[];
  return (
    <VirtualTable
      label={label}
      columns={columns.map((column) => ({ ...column, sortable: column.value !== undefined }))}
      count={sorted.length}
      rowAt={(at) => sorted[at]?.original}
      rowKey={rowKey}
      sort={sort}
      onSort={setSort}
      onOpen={onOpen}
      onToggle={onToggle}
      isSelected={isSelected}
      height={height}
    />
  );
}

import { Table as MantineTable, ScrollArea, Text } from "@mantine/core";
import type { Cell, Table } from "../../lib/export";
import { number, printable } from "../../lib/format";

const MOST = 500;

/** The numbers behind a drawing, for reading; the exports have all of them. */
export function PlainTable({ table, caption }: { table: Table; caption: string }) {
  const { columns, rows } = table;
  return (
    <ScrollArea.Autosize mah={360} viewportProps={{ tabIndex: 0, role: "region", "aria-label": `${caption}, numbers` }}>
      <MantineTable striped stickyHeader fz="xs" verticalSpacing={4}>
        <MantineTable.Thead>
          <MantineTable.Tr>
            {columns.map((name) => (
              <MantineTable.Th key={name}>{name}</MantineTable.Th>
            ))}
          </MantineTable.Tr>
        </MantineTable.Thead>
        <MantineTable.Tbody>
          {rows.slice(0, MOST).map((row, at) => (
            <MantineTable.Tr key={at}>
              {row.map((value, column) => (
                <MantineTable.Td key={column} className={typeof value === "number" ? "num" : undefined}>
                  {shown(value)}
                </MantineTable.Td>
              ))}
            </MantineTable.Tr>
          ))}
        </MantineTable.Tbody>
      </MantineTable>
      {rows.length > MOST && (
        <Text size="xs" c="dimmed" p="xs">
          {rows.length - MOST} more rows are in the CSV and JSON exports.
        </Text>
      )}
    </ScrollArea.Autosize>
  );
}

function shown(value: Cell): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : number(value, 4);
  return printable(String(value));
}

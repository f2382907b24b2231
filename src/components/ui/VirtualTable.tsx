import { VisuallyHidden } from "@mantine/core";
import { IconArrowDown, IconArrowUp } from "@tabler/icons-react";
import { useVirtualizer } from "@tanstack/react-virtual";
import {
  type CSSProperties,
  type KeyboardEvent,
  memo,
  type ReactNode,
  useCallback,
  useEffect,
  useId,
  useRef,
  useState,
} from "react";

export interface Column<Row> {
  id: string;
  title: string;
  /** Pixels; the columns that `grow` share what is left. */
  width: number;
  grow?: boolean;
  right?: boolean;
  /** Holds more than a line of text, so that it has to be centred as a block. */
  rich?: boolean;
  /** For a column of controls, whose purpose is plain to see. */
  hideTitle?: boolean;
  sortable?: boolean;
  cell: (row: Row, index: number) => ReactNode;
}

export interface Sort {
  id: string;
  descending: boolean;
}

interface VirtualTableProps<Row> {
  label: string;
  columns: Column<Row>[];
  count: number;
  /** Undefined while the row is on its way. */
  rowAt: (index: number) => Row | undefined;
  rowKey: (row: Row, index: number) => string;
  sort?: Sort;
  onSort?: (sort: Sort) => void;
  onOpen?: (row: Row, index: number) => void;
  onToggle?: (row: Row) => void;
  isSelected?: (row: Row) => boolean;
  /** Which rows are in sight, so that they can be fetched. */
  onRange?: (first: number, last: number) => void;
  height?: number | string;
  rowHeight?: number;
}

/**
 * A table of any length: only rows in sight are in the page. One stop of the tab key; arrow keys move a row cursor,
 * Enter opens, Space selects.
 */
export function VirtualTable<Row>(props: VirtualTableProps<Row>) {
  const {
    label,
    columns,
    count,
    rowAt,
    rowKey,
    sort,
    onSort,
    onOpen,
    onToggle,
    isSelected,
    onRange,
    rowHeight = 34,
  } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const base = useId();
  const [active, setActive] = useState(-1);
  const rows = useVirtualizer({
    count,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    overscan: 6,
  });
  const items = rows.getVirtualItems();
  const [first, last] = [items[0]?.index ?? 0, items.at(-1)?.index ?? 0];
  useEffect(() => onRange?.(first, last), [first, last, onRange]);

  const onKey = (event: KeyboardEvent) => {
    if (event.target !== event.currentTarget) return;
    const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? 400) / rowHeight) - 2);
    const steps: Record<string, number> = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: page,
      PageUp: -page,
      Home: -count,
      End: count,
    };
    const step = steps[event.key];
    if (step !== undefined && count > 0) {
      event.preventDefault();
      const next = Math.min(count - 1, Math.max(0, active + step));
      setActive(next);
      rows.scrollToIndex(next, { align: "auto" });
      return;
    }
    const row = active >= 0 ? rowAt(active) : undefined;
    if (row === undefined) return;
    if (event.key === "Enter") onOpen?.(row, active);
    if (event.key === " ") {
      event.preventDefault();
      onToggle?.(row);
    }
  };
  const handlers = useRef({ onOpen });
  handlers.current = { onOpen };
  const click = useCallback((row: Row | undefined, index: number, target: HTMLElement) => {
    setActive(index);
    if (row !== undefined && !target.closest("button, a, input, label")) handlers.current.onOpen?.(row, index);
  }, []);
  const minWidth = columns.reduce((sum, column) => sum + column.width, 0);

  return (
    <div
      ref={scroller}
      className="scroller"
      style={{ height: props.height ?? Math.min(480, 40 + count * rowHeight) }}
      role="grid"
      aria-label={label}
      aria-rowcount={count + 1}
      aria-colcount={columns.length}
      aria-multiselectable={onToggle ? true : undefined}
      aria-activedescendant={
        active >= 0 && items.some(({ index }) => index === active) ? `${base}-${active}` : undefined
      }
      tabIndex={0}
      onKeyDown={onKey}
    >
      <table className="grid-table" role="presentation" style={{ ...templateOf(columns), minWidth }}>
        <thead role="rowgroup">
          <tr role="row" aria-rowindex={1}>
            {columns.map((column) => {
              const sorted = sort?.id === column.id ? (sort.descending ? "descending" : "ascending") : undefined;
              return (
                <th key={column.id} role="columnheader" className={classOf(column)} aria-sort={sorted}>
                  {column.sortable && onSort ? (
                    <button
                      type="button"
                      className="link"
                      onClick={() => onSort({ id: column.id, descending: sorted === "ascending" })}
                    >
                      {column.title}
                      {sorted === "ascending" && <IconArrowUp size={13} aria-hidden />}
                      {sorted === "descending" && <IconArrowDown size={13} aria-hidden />}
                    </button>
                  ) : column.hideTitle ? (
                    <VisuallyHidden>{column.title}</VisuallyHidden>
                  ) : (
                    column.title
                  )}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody role="rowgroup" style={{ height: rows.getTotalSize() }}>
          {items.map(({ index, start }) => {
            const row = rowAt(index);
            return (
              <TableRow
                key={row === undefined ? index : rowKey(row, index)}
                id={`${base}-${index}`}
                row={row}
                index={index}
                start={start}
                height={rowHeight}
                columns={columns}
                isActive={index === active}
                selected={isSelected ? row !== undefined && isSelected(row) : undefined}
                opens={onOpen !== undefined}
                onClick={click}
              />
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

/** One template for all rows: cells without a style of their own share what the browser works out for one of them. */
function templateOf<Row>(columns: Column<Row>[]): CSSProperties {
  const tracks = columns.map(({ width, grow }) => (grow ? `minmax(${width}px, ${width}fr)` : `${width}px`));
  return { "--columns": tracks.join(" ") } as CSSProperties;
}

function classOf<Row>({ right, rich }: Column<Row>): string | undefined {
  return right ? "right" : rich ? "rich" : undefined;
}

interface TableRowProps<Row> {
  id: string;
  row: Row | undefined;
  index: number;
  start: number;
  height: number;
  columns: Column<Row>[];
  isActive: boolean;
  selected: boolean | undefined;
  opens: boolean;
  onClick: (row: Row | undefined, index: number, target: HTMLElement) => void;
}

/** A row stays as it is while others scroll into sight. */
const TableRow = memo(function TableRow<Row>(props: TableRowProps<Row>) {
  const { id, row, index, start, height, columns, isActive, selected, opens, onClick } = props;
  return (
    <tr
      id={id}
      role="row"
      aria-rowindex={index + 2}
      aria-selected={selected}
      data-selected={selected || undefined}
      style={{
        transform: `translateY(${start}px)`,
        height,
        lineHeight: `${height - 1}px`,
        outline: isActive ? "2px solid var(--accent)" : undefined,
        outlineOffset: -2,
        cursor: opens ? "pointer" : undefined,
      }}
      onClick={(event) => onClick(row, index, event.target as HTMLElement)}
    >
      {columns.map((column) => (
        <td key={column.id} role="gridcell" className={classOf(column)}>
          {row === undefined ? "…" : column.cell(row, index)}
        </td>
      ))}
    </tr>
  );
}) as <Row>(props: TableRowProps<Row>) => ReactNode;

import { type KeyboardEvent, type PointerEvent, useEffect, useId, useRef, useState } from "react";
import { colorAt, type MapName } from "../../lib/color";
import { paint, type Raster } from "../../lib/raster";
import { linearScale } from "../../lib/ticks";
import { BottomAxis, Drawing, useFrame } from "./chart";

export interface HeatmapProps {
  label: string;
  raster: Raster;
  map: MapName;
  domain: [number, number];
  rowName: (row: number) => string;
  columnName: (column: number) => string;
  format: (value: number) => string;
  x: string;
  /** Lines between groups of rows, with the name of the group that begins there. */
  groups?: { row: number; name: string }[];
  /** A line before this column. */
  marker?: number;
  selected?: ReadonlySet<number>;
  onPick?: (row: number, column: number) => void;
  height?: number;
  left?: number;
  /** Column numbers from one, as ranks are counted; otherwise names. */
  numbered?: boolean;
}

/**
 * A heatmap on a canvas: a thousand rows by hundreds of columns repaint in a few milliseconds. It is one stop of the
 * tab key; arrow keys move a cursor whose value is read out, Enter picks the row.
 */
export function Heatmap(props: HeatmapProps) {
  const { label, raster, map, domain, rowName, columnName, format, x, groups = [], marker, selected, onPick } = props;
  const { rows, columns } = raster;
  const height = props.height ?? Math.min(560, Math.max(180, rows * 4 + 60));
  const { ref, frame } = useFrame(height, { top: 8, right: 88, bottom: 42, left: props.left ?? 150 });
  const { inner } = frame;
  const canvas = useRef<HTMLCanvasElement>(null);
  const readout = useId();
  const [cursor, setCursor] = useState<{ row: number; column: number } | null>(null);

  const [low, high] = domain;
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || rows === 0 || columns === 0) return;
    const started = performance.now();
    const image = context.createImageData(columns, rows);
    paint(image.data, raster, map, low, high);
    context.putImageData(image, 0, 0);
    canvas.current!.dataset.milliseconds = (performance.now() - started).toFixed(2);
  }, [raster, rows, columns, map, low, high]);

  const cellAt = (event: PointerEvent<HTMLElement>) => {
    const box = canvas.current!.getBoundingClientRect();
    return {
      column: clamp(Math.floor(((event.clientX - box.left) / box.width) * columns), columns),
      row: clamp(Math.floor(((event.clientY - box.top) / box.height) * rows), rows),
    };
  };
  const onKey = (event: KeyboardEvent) => {
    const from = cursor ?? { row: 0, column: 0 };
    const leap = event.shiftKey ? 10 : 1;
    const steps: Record<string, [number, number]> = {
      ArrowUp: [-leap, 0],
      ArrowDown: [leap, 0],
      ArrowLeft: [0, -leap],
      ArrowRight: [0, leap],
      Home: [0, -columns],
      End: [0, columns],
      PageUp: [-20, 0],
      PageDown: [20, 0],
    };
    const step = steps[event.key];
    if (step) {
      event.preventDefault();
      setCursor({ row: clamp(from.row + step[0], rows), column: clamp(from.column + step[1], columns) });
    } else if (event.key === "Enter" && cursor) {
      onPick?.(cursor.row, cursor.column);
    } else if (event.key === "Escape") {
      setCursor(null);
    }
  };

  const xs = linearScale([0.5, columns + 0.5], [inner.left, inner.right], Math.max(3, inner.width / 80));
  const cell = { width: inner.width / Math.max(1, columns), height: inner.height / Math.max(1, rows) };
  if (columns <= 24 || props.numbered === false) xs.ticks = Array.from({ length: columns }, (_, at) => at + 1);
  else xs.ticks = [1, ...xs.ticks.filter((tick) => Number.isInteger(tick) && tick > columns / 30)];
  const value = cursor ? raster.at(cursor.row, cursor.column) : Number.NaN;
  const said = cursor
    ? `${rowName(cursor.row)}, ${columnName(cursor.column)}: ${Number.isNaN(value) ? "no value" : format(value)}`
    : "Arrow keys or the pointer read single values.";

  return (
    <div ref={ref} className="chart heatmap">
      <div
        className="plane"
        style={{ height }}
        role="application"
        aria-label={`${label}. Arrow keys move the cursor, Enter chooses the layer.`}
        aria-describedby={readout}
        tabIndex={0}
        onKeyDown={onKey}
        onPointerMove={(event) => setCursor(cellAt(event))}
        onPointerLeave={() => setCursor(null)}
        onClick={() => cursor && onPick?.(cursor.row, cursor.column)}
      >
        <canvas
          ref={canvas}
          data-figure
          data-place={`${inner.left} ${inner.top}`}
          width={Math.max(1, columns)}
          height={Math.max(1, rows)}
          style={{ left: inner.left, top: inner.top, width: inner.width, height: inner.height }}
        />
        <Drawing frame={frame} label={label}>
          {props.numbered === false ? (
            <g className="axis">
              {xs.ticks.map((tick) => (
                <text key={tick} x={xs(tick)} y={inner.bottom + 15} textAnchor="middle">
                  {cut(columnName(tick - 1), Math.max(4, Math.floor(cell.width / 6.5)))}
                </text>
              ))}
            </g>
          ) : (
            <BottomAxis frame={frame} scale={xs} label={x} />
          )}
          <rect
            className="outline"
            x={inner.left}
            y={inner.top}
            width={inner.width}
            height={inner.height}
            fill="none"
          />
          <RowNames
            groups={groups}
            rows={rows}
            rowName={rowName}
            top={inner.top}
            left={inner.left}
            right={inner.right}
            step={cell.height}
          />
          {[...(selected ?? [])].map((row) => (
            <rect
              key={row}
              className="chosen"
              x={inner.left - 3}
              width={inner.width + 6}
              y={inner.top + row * cell.height}
              height={Math.max(2, cell.height)}
              fill="none"
            />
          ))}
          {marker !== undefined && marker < columns && (
            <line
              className="marker"
              x1={inner.left + marker * cell.width}
              x2={inner.left + marker * cell.width}
              y1={inner.top}
              y2={inner.bottom}
            />
          )}
          {cursor && (
            <g className="crosshair">
              <rect
                x={inner.left}
                width={inner.width}
                y={inner.top + cursor.row * cell.height}
                height={Math.max(1, cell.height)}
              />
              <rect
                x={inner.left + cursor.column * cell.width}
                width={Math.max(1, cell.width)}
                y={inner.top}
                height={inner.height}
              />
            </g>
          )}
          <ColorBar
            map={map}
            domain={domain}
            format={format}
            x={inner.right + 16}
            top={inner.top}
            height={inner.height}
          />
        </Drawing>
      </div>
      <output id={readout} className="readout" aria-live="polite">
        {said}
      </output>
    </div>
  );
}

interface RowNamesProps {
  groups: { row: number; name: string }[];
  rows: number;
  rowName: (row: number) => string;
  top: number;
  left: number;
  right: number;
  step: number;
}

/** Every row's name where rows are tall enough; otherwise the groups' names and the lines between them. */
function RowNames({ groups, rows, rowName, top, left, right, step }: RowNamesProps) {
  const most = Math.floor((left - 12) / 6.2);
  if (groups.length === 0 || (step >= 12 && rows <= 60 && groups.length > rows / 2)) {
    return (
      <g className="axis">
        {Array.from({ length: rows }, (_, row) => (
          <text key={row} x={left - 7} y={top + (row + 0.5) * step} textAnchor="end" dominantBaseline="middle">
            {step >= 10 ? cut(rowName(row), most) : ""}
          </text>
        ))}
      </g>
    );
  }
  let last = -100;
  return (
    <g className="axis">
      {groups.map(({ row, name }, at) => {
        const end = groups[at + 1]?.row ?? rows;
        const y = top + ((row + end) / 2) * step;
        const roomy = y - last >= 12;
        if (roomy) last = y;
        return (
          <g key={`${name} ${row}`}>
            {row > 0 && (
              <line className="divider" x1={left - 4} x2={right} y1={top + row * step} y2={top + row * step} />
            )}
            {roomy && (
              <text x={left - 7} y={y} textAnchor="end" dominantBaseline="middle">
                {cut(name, most)}
                <title>{name}</title>
              </text>
            )}
          </g>
        );
      })}
    </g>
  );
}

function ColorBar({
  map,
  domain,
  format,
  x,
  top,
  height,
}: {
  map: MapName;
  domain: [number, number];
  format: (value: number) => string;
  x: number;
  top: number;
  height: number;
}) {
  const steps = 32;
  const tall = Math.min(height, 220);
  return (
    <g className="axis">
      {Array.from({ length: steps }, (_, at) => (
        <rect
          key={at}
          x={x}
          width={12}
          y={top + (at * tall) / steps}
          height={tall / steps + 0.6}
          style={{ fill: colorAt(map, 1 - (at + 0.5) / steps) }}
        />
      ))}
      <text x={x + 17} y={top + 6} dominantBaseline="middle">
        {format(domain[1])}
      </text>
      <text x={x + 17} y={top + tall - 4} dominantBaseline="middle">
        {format(domain[0])}
      </text>
    </g>
  );
}

function cut(text: string, most: number): string {
  return text.length <= most ? text : `…${text.slice(text.length - most + 1)}`;
}

function clamp(value: number, count: number): number {
  return Math.min(count - 1, Math.max(0, value));
}

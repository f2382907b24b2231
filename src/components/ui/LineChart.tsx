import { memo, type PointerEvent, useState } from "react";
import { linearScale, logScale, type Scale, tickLabel } from "../../lib/ticks";
import { BottomAxis, Drawing, type Frame, LeftAxis, pathOf, RightAxis, useFrame } from "./chart";

export interface Line {
  name: string;
  points: readonly (readonly [number, number])[];
  color: string;
  dashed?: boolean;
  /** Drawn against the axis on the right. */
  right?: boolean;
  faint?: boolean;
}

export interface Band {
  low: readonly (readonly [number, number])[];
  high: readonly (readonly [number, number])[];
}

interface LineChartProps {
  label: string;
  lines: Line[];
  band?: Band;
  x: { label: string; domain: [number, number]; log?: boolean; format?: (value: number) => string };
  y: { label: string; domain: [number, number]; log?: boolean; format?: (value: number) => string };
  right?: { label: string; domain: [number, number]; format?: (value: number) => string };
  /** A vertical line that can be dragged, or moved with the arrow keys. */
  cursor?: { value: number; label: string; min: number; max: number; onMove?: (value: number) => void };
  marks?: { x: number; y: number; label: string }[];
  height?: number;
}

const MARGIN = { top: 10, right: 18, bottom: 42, left: 62 };

export function LineChart({ label, lines, band, x, y, right, cursor, marks = [], height = 260 }: LineChartProps) {
  const { ref, frame } = useFrame(height, { ...MARGIN, right: right ? 66 : MARGIN.right });
  const [pointer, setPointer] = useState<number | null>(null);
  const { inner } = frame;
  const xs = (x.log ? logScale : linearScale)(x.domain, [inner.left, inner.right], Math.max(3, inner.width / 90));
  const ys = (y.log ? logScale : linearScale)(y.domain, [inner.bottom, inner.top], 5);
  const rs = right ? linearScale(right.domain, [inner.bottom, inner.top], 5) : null;

  const valueAt = (event: PointerEvent<SVGSVGElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    return xs.invert(Math.min(inner.right, Math.max(inner.left, event.clientX - box.left)));
  };
  const move = (event: PointerEvent<SVGSVGElement>) => {
    const value = valueAt(event);
    setPointer(value);
    if (cursor?.onMove && event.buttons === 1) cursor.onMove(clamp(Math.round(value), cursor.min, cursor.max));
  };

  return (
    <div ref={ref} className="chart">
      <Drawing
        frame={frame}
        label={label}
        onPointerMove={move}
        onPointerDown={(event) => {
          if (!cursor?.onMove) return;
          event.currentTarget.setPointerCapture(event.pointerId);
          cursor.onMove(clamp(Math.round(valueAt(event)), cursor.min, cursor.max));
        }}
        onPointerLeave={() => setPointer(null)}
        style={cursor?.onMove ? { cursor: "ew-resize", touchAction: "pan-y" } : undefined}
      >
        <LeftAxis frame={frame} scale={ys} label={y.label} format={y.format ?? tickLabel} />
        <BottomAxis frame={frame} scale={xs} label={x.label} format={x.format ?? tickLabel} />
        {rs && right && <RightAxis frame={frame} scale={rs} label={right.label} format={right.format ?? tickLabel} />}
        {band && <path className="band" d={bandPath(band, xs, ys)} />}
        <Paths lines={lines} frame={frame} x={x} y={y} right={right} />
        {marks.map((mark) => (
          <g key={mark.label} transform={`translate(${xs(mark.x)},${ys(mark.y)})`}>
            <circle r={4} className="mark" />
            <title>{mark.label}</title>
          </g>
        ))}
        {cursor && (
          <g className="cursor" transform={`translate(${xs(clamp(cursor.value, x.domain[0], x.domain[1]))},0)`}>
            <line y1={inner.top} y2={inner.bottom} />
            <text
              x={xs(cursor.value) > inner.right - 70 ? -6 : 6}
              y={inner.bottom - 8}
              textAnchor={xs(cursor.value) > inner.right - 70 ? "end" : "start"}
            >
              {cursor.label}
            </text>
          </g>
        )}
        {pointer !== null && <PointerLine x={xs(pointer)} top={inner.top} bottom={inner.bottom} />}
      </Drawing>
      <Legend lines={lines} pointer={pointer} />
    </div>
  );
}

type PathsProps = Pick<LineChartProps, "lines" | "x" | "y" | "right"> & { frame: Frame };

/** The curves alone: they stay as they are while the cursor moves over them. */
const Paths = memo(
  function Paths({ lines, frame: { inner }, x, y, right }: PathsProps) {
    const xs = (x.log ? logScale : linearScale)(x.domain, [inner.left, inner.right]);
    const ys = (y.log ? logScale : linearScale)(y.domain, [inner.bottom, inner.top]);
    const rs = right ? linearScale(right.domain, [inner.bottom, inner.top]) : ys;
    return lines.map((line) => (
      <path
        key={line.name}
        d={pathOf(line.points.map(([a, b]) => [xs(a), (line.right ? rs : ys)(b)] as const))}
        fill="none"
        stroke={line.color}
        strokeWidth={line.faint ? 1 : 2}
        strokeOpacity={line.faint ? 0.55 : 1}
        strokeDasharray={line.dashed ? "5 4" : undefined}
      >
        <title>{line.name}</title>
      </path>
    ));
  },
  (before, after) =>
    before.lines === after.lines &&
    before.frame.width === after.frame.width &&
    before.frame.height === after.frame.height &&
    before.x.log === after.x.log &&
    same(before.x.domain, after.x.domain) &&
    same(before.y.domain, after.y.domain) &&
    same(before.right?.domain ?? [], after.right?.domain ?? []),
);

function same(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((value, at) => value === other[at]);
}

function PointerLine({ x, top, bottom }: { x: number; top: number; bottom: number }) {
  return <line className="pointer" x1={x} x2={x} y1={top} y2={bottom} />;
}

/** Names of the lines, with the values under the pointer. */
function Legend({ lines, pointer }: { lines: Line[]; pointer: number | null }) {
  const named = lines.filter((line) => !line.faint);
  if (named.length < 2) return null;
  return (
    <ul className="legend">
      {named.map((line) => (
        <li key={line.name}>
          <svg width="18" height="8" aria-hidden="true">
            <line
              x1="0"
              x2="18"
              y1="4"
              y2="4"
              stroke={line.color}
              strokeWidth="2.5"
              strokeDasharray={line.dashed ? "5 3" : undefined}
            />
          </svg>
          {line.name}
          {pointer !== null && <span className="num"> {tickLabel(Number(nearest(line, pointer).toPrecision(3)))}</span>}
        </li>
      ))}
    </ul>
  );
}

function nearest(line: Line, x: number): number {
  let best = line.points[0] ?? ([0, 0] as const);
  for (const point of line.points) if (Math.abs(point[0] - x) < Math.abs(best[0] - x)) best = point;
  return best[1];
}

function bandPath(band: Band, xs: Scale, ys: Scale): string {
  const there = band.high.map(([a, b]) => [xs(a), ys(b)] as const);
  const back = [...band.low].reverse().map(([a, b]) => [xs(a), ys(b)] as const);
  return `${pathOf([...there, ...back])}Z`;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}

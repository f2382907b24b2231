import { linearScale, logScale } from "../../lib/ticks";
import { BottomAxis, Drawing, LeftAxis, useFrame } from "./chart";

export interface Point {
  name: string;
  x: number;
  y: number;
  group: string;
}

interface ScatterProps {
  label: string;
  points: Point[];
  x: string;
  y: string;
  colors: Map<string, string>;
  selected?: ReadonlySet<string>;
  onPick?: (name: string) => void;
  log?: boolean;
  diagonal?: boolean;
  height?: number;
}

const SHAPES = ["circle", "square", "triangle", "diamond", "cross"] as const;

/** Points in two dimensions. Groups differ in colour and in shape, never in colour alone. */
export function ScatterChart({
  label,
  points,
  x,
  y,
  colors,
  selected,
  onPick,
  log = false,
  diagonal,
  height = 320,
}: ScatterProps) {
  const { ref, frame } = useFrame(height, { top: 10, right: 14, bottom: 42, left: 62 });
  const { inner } = frame;
  const make = log ? logScale : linearScale;
  const [xDomain, yDomain] = diagonal
    ? shared(points, log)
    : [
        range(
          points.map((p) => p.x),
          log,
        ),
        range(
          points.map((p) => p.y),
          log,
        ),
      ];
  const xs = make(xDomain, [inner.left, inner.right], 6);
  const ys = make(yDomain, [inner.bottom, inner.top], 5);
  const groups = [...colors.keys()];
  return (
    <div ref={ref} className="chart">
      <Drawing frame={frame} label={label}>
        <LeftAxis frame={frame} scale={ys} label={y} />
        <BottomAxis frame={frame} scale={xs} label={x} />
        {diagonal && (
          <line className="threshold" x1={xs(xDomain[0])} y1={ys(xDomain[0])} x2={xs(xDomain[1])} y2={ys(xDomain[1])} />
        )}
        {points.map((point) => (
          // biome-ignore lint/a11y/noStaticElementInteractions: the same choice is a row of the table view
          <path
            key={point.name}
            d={shape(
              SHAPES[groups.indexOf(point.group) % SHAPES.length] ?? "circle",
              selected?.has(point.name) ? 7 : 4,
            )}
            transform={`translate(${xs(point.x).toFixed(1)},${ys(point.y).toFixed(1)})`}
            className={selected?.has(point.name) ? "dot chosen" : "dot"}
            style={{ fill: colors.get(point.group), cursor: onPick ? "pointer" : undefined }}
            onClick={onPick && (() => onPick(point.name))}
          >
            <title>{`${point.name} (${point.group})`}</title>
          </path>
        ))}
      </Drawing>
      <ul className="legend">
        {groups.map((group, at) => (
          <li key={group}>
            <svg width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">
              <path d={shape(SHAPES[at % SHAPES.length]!, 5)} style={{ fill: colors.get(group) }} />
            </svg>
            {group}
          </li>
        ))}
      </ul>
    </div>
  );
}

function range(values: number[], log: boolean): [number, number] {
  const usable = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  if (usable.length === 0) return log ? [0.1, 1] : [0, 1];
  const low = usable.reduce((a, b) => Math.min(a, b));
  const high = usable.reduce((a, b) => Math.max(a, b));
  if (log) return [low / 1.15, high * 1.15];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - room, high + room];
}

function shared(points: Point[], log: boolean): [[number, number], [number, number]] {
  const both = range(
    points.flatMap((point) => [point.x, point.y]),
    log,
  );
  return [both, both];
}

function shape(kind: (typeof SHAPES)[number], size: number): string {
  const s = size;
  switch (kind) {
    case "circle":
      return `M${-s} 0a${s} ${s} 0 1 0 ${2 * s} 0a${s} ${s} 0 1 0 ${-2 * s} 0`;
    case "square":
      return `M${-s} ${-s}h${2 * s}v${2 * s}h${-2 * s}Z`;
    case "triangle":
      return `M0 ${-1.2 * s}L${1.15 * s} ${s}H${-1.15 * s}Z`;
    case "diamond":
      return `M0 ${-1.35 * s}L${1.35 * s} 0L0 ${1.35 * s}L${-1.35 * s} 0Z`;
    case "cross": {
      const a = s * 0.4;
      return `M${-a} ${-s}h${2 * a}v${s - a}h${s - a}v${2 * a}h${a - s}v${s - a}h${-2 * a}v${a - s}h${a - s}v${-2 * a}h${s - a}Z`;
    }
  }
}

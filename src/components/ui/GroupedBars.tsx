import { CATEGORIES } from "../../lib/color";
import { linearScale, tickLabel } from "../../lib/ticks";
import { Drawing, LeftAxis, useFrame } from "./chart";

interface GroupedBarsProps {
  label: string;
  groups: { name: string; values: number[] }[];
  series: string[];
  y: string;
  height?: number;
}

/** Bars side by side per group; names below, slanted where they would run into each other. */
export function GroupedBars({ label, groups, series, y, height = 310 }: GroupedBarsProps) {
  const { ref, frame } = useFrame(height, { top: 10, right: 14, bottom: 104, left: 84 });
  const { inner } = frame;
  const most = Math.max(...groups.flatMap((group) => group.values), 1e-12);
  const ys = linearScale([0, most * 1.04], [inner.bottom, inner.top], 5);
  const step = inner.width / Math.max(1, groups.length);
  const thick = Math.max(1, (step * 0.78) / Math.max(1, series.length));
  const every = Math.max(1, Math.ceil(13 / step));
  return (
    <div ref={ref} className="chart">
      <Drawing frame={frame} label={label}>
        <LeftAxis frame={frame} scale={ys} label={y} format={tickLabel} />
        {groups.map((group, at) => (
          <g key={group.name} transform={`translate(${inner.left + at * step + step * 0.11},0)`}>
            {group.values.map((value, place) => (
              <rect
                key={series[place]}
                x={place * thick}
                width={Math.max(0.8, thick - 0.8)}
                y={ys(value)}
                height={Math.max(0, inner.bottom - ys(value))}
                style={{ fill: CATEGORIES[place % CATEGORIES.length] }}
              >
                <title>{`${group.name}, ${series[place]}: ${value.toPrecision(3)}`}</title>
              </rect>
            ))}
            {at % every === 0 && (
              <text
                className="slanted"
                transform={`translate(${step * 0.39},${inner.bottom + 12}) rotate(-38)`}
                textAnchor="end"
              >
                {group.name}
              </text>
            )}
          </g>
        ))}
        <line className="rule" x1={inner.left} x2={inner.right} y1={inner.bottom} y2={inner.bottom} />
      </Drawing>
      <ul className="legend">
        {series.map((name, at) => (
          <li key={name}>
            <svg width="12" height="12" aria-hidden="true">
              <rect width="12" height="12" rx="2" style={{ fill: CATEGORIES[at % CATEGORIES.length] }} />
            </svg>
            {name}
          </li>
        ))}
      </ul>
    </div>
  );
}

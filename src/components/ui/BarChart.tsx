import { useState } from "react";
import { linearScale, tickLabel } from "../../lib/ticks";
import { BottomAxis, Drawing, LeftAxis, pathOf, RightAxis, useFrame } from "./chart";

interface Bar {
  name: string;
  value: number;
  color?: string;
}

interface ColumnsProps {
  label: string;
  bars: Bar[];
  x: string;
  y: string;
  format?: (value: number) => string;
  /** A line above the bars, 0 to 1, against the axis on the right. */
  line?: { name: string; values: number[] };
  height?: number;
}

/** Upright bars, such as explained variance per component. */
export function ColumnChart({ label, bars, x, y, format = tickLabel, line, height = 240 }: ColumnsProps) {
  const { ref, frame } = useFrame(height, { top: 10, right: line ? 60 : 14, bottom: 42, left: 58 });
  const { inner } = frame;
  const most = Math.max(...bars.map((bar) => bar.value), 1e-12);
  const ys = linearScale([0, most * 1.05], [inner.bottom, inner.top], 5);
  const rs = linearScale([0, 1], [inner.bottom, inner.top], 4);
  const step = inner.width / Math.max(1, bars.length);
  const every = Math.max(1, Math.ceil((bars.length * 30) / inner.width));
  const xs = linearScale([0.5, bars.length + 0.5], [inner.left, inner.right]);
  xs.ticks = bars.map((_, at) => at + 1).filter((at) => (at - 1) % every === 0);
  return (
    <div ref={ref} className="chart">
      <Drawing frame={frame} label={label}>
        <LeftAxis frame={frame} scale={ys} label={y} format={format} />
        <BottomAxis frame={frame} scale={xs} label={x} format={(at) => bars[at - 1]?.name ?? ""} />
        {bars.map((bar, at) => (
          <rect
            key={bar.name}
            className="bar"
            style={bar.color ? { fill: bar.color } : undefined}
            x={inner.left + at * step + Math.min(3, step * 0.12)}
            width={Math.max(1, step - Math.min(6, step * 0.24))}
            y={ys(bar.value)}
            height={Math.max(0, inner.bottom - ys(bar.value))}
          >
            <title>{`${bar.name}: ${format(bar.value)}`}</title>
          </rect>
        ))}
        {line && (
          <>
            <RightAxis frame={frame} scale={rs} label={line.name} format={(value) => `${Math.round(value * 100)} %`} />
            {[0.9, 0.95, 0.99].map((share) => (
              <line key={share} x1={inner.left} x2={inner.right} y1={rs(share)} y2={rs(share)} className="threshold" />
            ))}
            <path className="over" d={pathOf(line.values.map((value, at) => [xs(at + 1), rs(value)] as const))} />
          </>
        )}
      </Drawing>
    </div>
  );
}

/** Lying bars with their names, for tags and blocks; real text, so no drawing is needed for reading. */
export function BarList({
  bars,
  format = tickLabel,
  onPick,
  full,
}: {
  bars: Bar[];
  format?: (value: number) => string;
  onPick?: (name: string) => void;
  /** What a full bar stands for, where the largest value would mislead. */
  full?: number;
}) {
  const [all, setAll] = useState(false);
  const most = full ?? Math.max(...bars.map((bar) => Math.abs(bar.value)), 1e-12);
  const shown = all ? bars : bars.slice(0, 40);
  return (
    <>
      <ol className="bars">
        {shown.map((bar) => (
          <li key={bar.name}>
            {onPick ? (
              <button type="button" className="link" onClick={() => onPick(bar.name)}>
                {bar.name}
              </button>
            ) : (
              <span className="name">{bar.name}</span>
            )}
            <span className="track" aria-hidden="true">
              <span style={{ width: `${(100 * Math.abs(bar.value)) / most}%`, background: bar.color }} />
            </span>
            <span className="num">{format(bar.value)}</span>
          </li>
        ))}
      </ol>
      {bars.length > shown.length && (
        <button type="button" className="link" onClick={() => setAll(true)}>
          Show all {bars.length}
        </button>
      )}
    </>
  );
}

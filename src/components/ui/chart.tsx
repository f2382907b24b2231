import { useElementSize } from "@mantine/hooks";
import type { ReactNode } from "react";
import { type Scale, tickLabel } from "../../lib/ticks";

export interface Margin {
  top: number;
  right: number;
  bottom: number;
  left: number;
}

export interface Frame {
  width: number;
  height: number;
  inner: { left: number; right: number; top: number; bottom: number; width: number; height: number };
}

/** The measured size of a chart's place: charts are drawn in pixels, so that letters keep their size. */
export function useFrame(height: number, margin: Margin): { ref: React.RefCallback<HTMLDivElement>; frame: Frame } {
  const { ref, width: measured } = useElementSize<HTMLDivElement>();
  const width = Math.max(measured || 640, 160);
  // Names beside a drawing are cut where there is little room: on a phone nothing would be left for the drawing.
  const left = Math.min(margin.left, Math.max(64, 0.3 * width));
  const inner = {
    left,
    right: width - margin.right,
    top: margin.top,
    bottom: height - margin.bottom,
    width: Math.max(10, width - left - margin.right),
    height: Math.max(10, height - margin.top - margin.bottom),
  };
  return { ref, frame: { width, height, inner } };
}

interface AxisProps {
  frame: Frame;
  scale: Scale;
  label: string;
  format?: (value: number) => string;
}

export function BottomAxis({ frame, scale, label, format = tickLabel }: AxisProps) {
  const { left, right, bottom } = frame.inner;
  return (
    <g className="axis">
      <line x1={left} x2={right} y1={bottom} y2={bottom} className="rule" />
      {scale.ticks.map((tick) => (
        <g key={tick} transform={`translate(${scale(tick)},${bottom})`}>
          <line y2={4} className="rule" />
          <text y={16} textAnchor="middle">
            {format(tick)}
          </text>
        </g>
      ))}
      <text x={(left + right) / 2} y={frame.height - 4} textAnchor="middle" className="title">
        {label}
      </text>
    </g>
  );
}

export function LeftAxis({ frame, scale, label, format = tickLabel, grid = true }: AxisProps & { grid?: boolean }) {
  const { left, right, top, bottom } = frame.inner;
  return (
    <g className="axis">
      {scale.ticks.map((tick) => (
        <g key={tick} transform={`translate(0,${scale(tick)})`}>
          {grid && <line x1={left} x2={right} className="grid" />}
          <text x={left - 7} textAnchor="end" dominantBaseline="middle">
            {format(tick)}
          </text>
        </g>
      ))}
      <text transform={`translate(12,${(top + bottom) / 2}) rotate(-90)`} textAnchor="middle" className="title">
        {label}
      </text>
    </g>
  );
}

export function RightAxis({ frame, scale, label, format = tickLabel }: AxisProps) {
  const { right, top, bottom } = frame.inner;
  return (
    <g className="axis">
      {scale.ticks.map((tick) => (
        <text key={tick} x={right + 7} y={scale(tick)} dominantBaseline="middle">
          {format(tick)}
        </text>
      ))}
      <text
        transform={`translate(${frame.width - 11},${(top + bottom) / 2}) rotate(90)`}
        textAnchor="middle"
        className="title"
      >
        {label}
      </text>
    </g>
  );
}

/** An SVG of the frame's size; `label` is what a screen reader says instead of the drawing. */
export function Drawing({
  frame,
  label,
  children,
  ...rest
}: { frame: Frame; label: string; children: ReactNode } & React.SVGProps<SVGSVGElement>) {
  return (
    <svg
      data-figure
      role="img"
      aria-label={label}
      width={frame.width}
      height={frame.height}
      viewBox={`0 0 ${frame.width} ${frame.height}`}
      className="drawing"
      {...rest}
    >
      {children}
    </svg>
  );
}

export function pathOf(points: Iterable<readonly [number, number]>): string {
  let text = "";
  for (const [x, y] of points) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) continue;
    text += `${text ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
  }
  return text;
}

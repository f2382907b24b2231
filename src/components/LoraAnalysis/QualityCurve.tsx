import { useMemo } from "react";
import { bytes, percent } from "../../lib/format";
import { Caption, Figure } from "../ui/Figure";
import { LineChart } from "../ui/LineChart";
import type { CurvePoint } from "./usePrediction";

interface QualityCurveProps {
  curve: CurvePoint[];
  name: string;
  rank: number | null;
  onRank: (rank: number) => void;
}

/** What every rank keeps, and what the file weighs there. The line can be dragged. */
export function QualityCurve({ curve, name, rank, onRank }: QualityCurveProps) {
  const drawn = useMemo(() => {
    const line = (key: "energy" | "mean" | "tenth" | "lowest") =>
      curve.map((point) => [point.rank, point[key]] as const);
    const sizes = curve
      .filter((point) => point.bytes !== null)
      .map((point) => [point.rank, point.bytes! / 1e6] as const);
    const low = Math.min(...curve.map((point) => point.lowest));
    return {
      lines: [
        { name: "energy kept, all layers", points: line("energy"), color: "var(--accent)" },
        { name: "mean over layers", points: line("mean"), color: "#7a5195" },
        { name: "tenth percentile", points: line("tenth"), color: "var(--chart-rule)", dashed: true },
        { name: "size, MB", points: sizes, color: "var(--warm)", dashed: true, right: true },
      ],
      sizes,
      floor: Math.max(0, Math.floor(low * 10) / 10),
      marks: [4, 8, 16, 32, 64, 128].flatMap((at) => {
        const point = curve[at - 1];
        return point
          ? [{ x: at, y: point.energy, label: `rank ${at}: ${percent(point.energy, 2)}, ${bytes(point.bytes)}` }]
          : [];
      }),
    };
  }, [curve]);
  const at = rank === null ? null : curve[Math.min(rank, curve.length) - 1];
  return (
    <Figure
      title="Quality versus rank"
      subject={name}
      help="If every layer had rank k: the share of all squared singular values that stays, the mean and the tenth percentile of the layers' own shares, and the size of the file to the byte."
      table={() => ({
        columns: ["rank", "energy", "mean_over_layers", "tenth_percentile", "lowest_layer", "bytes"],
        rows: curve.map((point) => [point.rank, point.energy, point.mean, point.tenth, point.lowest, point.bytes]),
      })}
    >
      <LineChart
        label={`Energy kept and file size at ranks 1 to ${curve.length}${at ? `; at rank ${at.rank}: ${percent(at.energy, 2)} and ${bytes(at.bytes)}` : ""}`}
        lines={drawn.lines}
        marks={drawn.marks}
        x={{ label: "rank of every layer", domain: [1, Math.max(2, curve.length)] }}
        y={{ label: "energy kept", domain: [drawn.floor, 1], format: (value) => percent(value, 0) }}
        right={drawn.sizes.length ? { label: "file, MB", domain: [0, drawn.sizes.at(-1)![1] * 1.02] } : undefined}
        cursor={
          at ? { value: at.rank, label: `rank ${at.rank}`, min: 1, max: curve.length, onMove: onRank } : undefined
        }
        height={280}
      />
      <Caption>
        {at
          ? "Drag in the drawing, or use the slider and its arrow keys."
          : "Ranks differ from layer to layer with this rule; the curve is for one rank everywhere."}
      </Caption>
    </Figure>
  );
}

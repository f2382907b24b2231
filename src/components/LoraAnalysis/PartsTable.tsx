import { number, percent, printable } from "../../lib/format";
import type { PartMeasures, Spectra } from "../../lib/spectra";
import { Figure } from "../ui/Figure";
import { type LocalColumn, LocalTable } from "../ui/LocalTable";

const COLUMNS: LocalColumn<PartMeasures>[] = [
  {
    id: "part",
    title: "Part",
    width: 240,
    grow: true,
    value: (part) => `${part.component} ${part.block ?? ""}`,
    cell: (part) => printable(part.block ? `${part.component} · ${part.block}` : part.component),
  },
  { id: "layers", title: "Layers", width: 80, right: true, value: (part) => part.layers, cell: (part) => part.layers },
  {
    id: "norm",
    title: "‖Δ‖",
    width: 100,
    right: true,
    value: (part) => part.frobenius_norm,
    cell: (part) => number(part.frobenius_norm, 4),
  },
  {
    id: "share",
    title: "Energy share",
    width: 190,
    value: (part) => part.energy_share,
    cell: (part) => (
      <span style={{ display: "grid", gridTemplateColumns: "1fr 58px", gap: 8, alignItems: "center", width: 165 }}>
        <span className="track" aria-hidden="true">
          <span style={{ width: `${100 * part.energy_share}%` }} />
        </span>
        <span className="num">{percent(part.energy_share)}</span>
      </span>
    ),
  },
  {
    id: "largest",
    title: "largest σ₁",
    width: 100,
    right: true,
    value: (part) => part.largest,
    cell: (part) => number(part.largest),
  },
  {
    id: "effective",
    title: "eff. rank",
    width: 90,
    right: true,
    value: (part) => part.effective_rank_median,
    cell: (part) => number(part.effective_rank_median),
  },
  {
    id: "stable",
    title: "stable rank",
    width: 96,
    right: true,
    value: (part) => part.stable_rank_median,
    cell: (part) => number(part.stable_rank_median),
  },
  {
    id: "k95",
    title: "k95 (max)",
    width: 96,
    right: true,
    value: (part) => part.rank_95_median,
    cell: (part) => `${number(part.rank_95_median)} (${part.rank_95_largest})`,
  },
];

/** Components and blocks: where the delta is, and how many directions it takes there. */
export function PartsTable({ spectra, name }: { spectra: Spectra; name: string }) {
  const rows = [...spectra.components.filter((part) => part.block === null), ...spectra.blocks];
  return (
    <Figure
      title="Parts"
      subject={name}
      help="Norm and share of the energy per component and block, and medians over their layers: effective rank (Roy and Vetterli), stable rank, and how many ranks hold 95 % of the energy."
      table={() => ({
        columns: [
          "component",
          "block",
          "layers",
          "frobenius_norm",
          "energy_share",
          "largest",
          "effective_rank_median",
          "stable_rank_median",
          "rank_95_median",
          "rank_95_largest",
        ],
        rows: rows.map((part) => [
          part.component,
          part.block,
          part.layers,
          part.frobenius_norm,
          part.energy_share,
          part.largest,
          part.effective_rank_median,
          part.stable_rank_median,
          part.rank_95_median,
          part.rank_95_largest,
        ]),
      })}
    >
      <LocalTable
        label="Parts"
        columns={COLUMNS}
        rows={rows}
        rowKey={(part) => `${part.component} ${part.block ?? ""}`}
      />
    </Figure>
  );
}

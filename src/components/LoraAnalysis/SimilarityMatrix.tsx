import { useMemo } from "react";
import type { ComparisonDocument } from "../../lib/comparison";
import { number, printable } from "../../lib/format";
import { Caption, Figure } from "../ui/Figure";
import { Heatmap } from "../ui/Heatmap";

interface SimilarityMatrixProps {
  found: ComparisonDocument;
  title: string;
  pair: number | null;
  onPair: (pair: number) => void;
}

/** Adapters by adapters: the cosine of their deltas. Opposite ones cancel, alike ones add up twice. */
export function SimilarityMatrix({ found, title, pair, onPair }: SimilarityMatrixProps) {
  const names = found.adapters.map(({ name }) => printable(name.replace(/\.safetensors$/, "")));
  const raster = useMemo(
    () => ({
      rows: found.adapters.length,
      columns: found.adapters.length,
      at: (row: number, column: number) => found.cosines[row]?.[column] ?? Number.NaN,
    }),
    [found],
  );
  const chosen = pair === null ? null : found.pairs[pair];
  return (
    <Figure
      title={title}
      subject={found.adapters[0]?.name ?? "adapters"}
      help="Cosine of whole deltas, ⟨Δ₁, Δ₂⟩ / ‖Δ₁‖‖Δ₂‖, from the factors. 0: independent. Red: they reinforce each other. Blue: they cancel."
      table={() => ({
        columns: ["adapter", ...found.adapters.map(({ name }) => name)],
        rows: found.cosines.map((row, at) => [found.adapters[at]!.name, ...row]),
      })}
    >
      <Heatmap
        label={`Cosines of ${names.length} adapters: ${found.pairs.map((one) => `${names[one.first]} and ${names[one.second]} ${number(one.cosine)}`).join(", ")}`}
        raster={raster}
        map="signed"
        domain={[-1, 1]}
        rowName={(row) => names[row]!}
        columnName={(column) => names[column]!}
        format={(value) => number(value, 3)}
        x=""
        numbered={false}
        height={Math.max(150, 52 * names.length + 60)}
        left={210}
        selected={chosen ? new Set([chosen.first, chosen.second]) : undefined}
        onPick={(row, column) => {
          const at = found.pairs.findIndex(
            (one) => (one.first === row && one.second === column) || (one.first === column && one.second === row),
          );
          if (at >= 0) onPair(at);
        }}
      />
      <Caption>
        Energy of the sum over the sum of energies: {number(found.interference, 4)} (1 for unrelated adapters, above
        where they reinforce, below where they cancel). A cell chooses its pair.
      </Caption>
    </Figure>
  );
}

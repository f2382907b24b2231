import { useMemo } from "react";
import { percent, printable } from "../../lib/format";
import { cumulativeEnergy, qualityCurve, type Spectra, valuesOf } from "../../lib/spectra";
import { ColumnChart } from "../ui/BarChart";
import { Caption, Figure } from "../ui/Figure";

/** Scree of the whole adapter, or of the one chosen layer: energy per index, and how it adds up. */
export function ExplainedVariance({ spectra, name, chosen }: { spectra: Spectra; name: string; chosen: number[] }) {
  const only = chosen.length === 1 ? chosen[0]! : null;
  const { shares, sums, of } = useMemo(() => {
    if (only !== null) {
      const values = valuesOf(spectra, only);
      const { kept } = cumulativeEnergy({ ...spectra, layers: [spectra.layers[only]!] });
      const whole = kept[0]!.at(-1)! || 1;
      return {
        shares: Array.from(values, (value) => value ** 2 / whole),
        sums: Array.from(kept[0]!.subarray(1), (sum) => sum / whole),
        of: spectra.layers[only]!.name,
      };
    }
    const curve = qualityCurve(spectra);
    return {
      shares: Array.from(curve.energy.subarray(1), (sum, at) => sum - curve.energy[at]!),
      sums: Array.from(curve.energy.subarray(1)),
      of: "all layers",
    };
  }, [spectra, only]);
  const reach = (share: number) => sums.findIndex((sum) => sum >= share - 1e-9) + 1;
  const words = [0.9, 0.95, 0.99].map((share) => `${percent(share, 0)} at rank ${reach(share)}`).join(", ");
  return (
    <Figure
      title="Explained variance"
      subject={name}
      help="Bars: the fraction of the squared singular values at each index. Line: their sum up to there; dashed at 90, 95 and 99 %. It is about weights, not about pictures or text."
      table={() => ({
        columns: ["index", "share", "cumulative"],
        rows: shares.map((share, at) => [at + 1, share, sums[at]!]),
      })}
    >
      <ColumnChart
        label={`Energy by singular index of ${of}: ${words}`}
        bars={shares.slice(0, 128).map((value, at) => ({ name: String(at + 1), value }))}
        line={{ name: "cumulative", values: sums.slice(0, 128) }}
        x="singular index"
        y="share of energy"
        format={(value) => percent(value, value < 0.1 ? 1 : 0)}
        height={260}
      />
      <Caption>
        {printable(of)}: {words}.
      </Caption>
    </Figure>
  );
}

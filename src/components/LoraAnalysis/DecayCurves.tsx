import { Checkbox } from "@mantine/core";
import { useMemo, useState } from "react";
import { CATEGORIES } from "../../lib/color";
import { printable } from "../../lib/format";
import { decayBand, type Spectra, valuesOf } from "../../lib/spectra";
import { Caption, Figure } from "../ui/Figure";
import { LineChart } from "../ui/LineChart";

/** How fast singular values fall: the chosen layers over the band that 80 % of all layers lie in. */
export function DecayCurves({ spectra, name, chosen }: { spectra: Spectra; name: string; chosen: number[] }) {
  const [log, setLog] = useState(false);
  const band = useMemo(() => decayBand(spectra), [spectra]);
  const points = (values: Float64Array | Float32Array, over = 1) =>
    Array.from(values, (value, at) => [at + 1, Math.max(value / over, 1e-6)] as const).filter(([, value]) =>
      Number.isFinite(value),
    );
  const lines = [
    { name: "median of all layers", points: points(band.middle), color: "var(--chart-rule)", dashed: true },
    ...chosen.map((at, place) => ({
      name: printable(spectra.layers[at]!.name),
      points: points(valuesOf(spectra, at), spectra.layers[at]!.largest || 1),
      color: CATEGORIES[place % CATEGORIES.length]!,
    })),
  ];
  const low = Math.max(
    1e-4,
    Math.min(
      ...lines.flatMap((line) => line.points.map(([, value]) => value)),
      ...points(band.low).map(([, value]) => value),
    ),
  );
  return (
    <Figure
      title="Decay"
      subject={name}
      help="Singular values over the layer's largest, by index. The grey band holds the layers between the 10th and the 90th percentile."
      table={() => ({
        columns: ["index", "p10", "median", "p90", ...chosen.map((at) => spectra.layers[at]!.name)],
        rows: Array.from(band.middle, (middle, k) => [
          k + 1,
          band.low[k]!,
          middle,
          band.high[k]!,
          ...chosen.map((at) => valuesOf(spectra, at)[k] ?? null),
        ]),
      })}
      controls={
        <Checkbox size="xs" label="log index" checked={log} onChange={(event) => setLog(event.currentTarget.checked)} />
      }
    >
      <LineChart
        label={`Decay curves of ${chosen.length} chosen layers over the band of all ${spectra.layers.length}`}
        lines={lines}
        band={{ low: points(band.low), high: points(band.high) }}
        x={{ label: "singular index", domain: [1, Math.max(2, spectra.width)], log }}
        y={{ label: "σ / σ₁", domain: [low, 1], log: true }}
      />
      {chosen.length === 0 && <Caption>Choose layers in the heatmap to see their curves.</Caption>}
    </Figure>
  );
}

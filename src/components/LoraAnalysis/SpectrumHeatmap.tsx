import { SegmentedControl, Select } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import { number, percent, printable } from "../../lib/format";
import { groupsOf, orderRows } from "../../lib/layers";
import type { Raster } from "../../lib/raster";
import { cumulativeEnergy, type Spectra } from "../../lib/spectra";
import { Caption, Figure } from "../ui/Figure";
import { Heatmap } from "../ui/Heatmap";

const MEASURES = [
  { value: "relative", label: "σ / σ₁" },
  { value: "absolute", label: "σ" },
  { value: "energy", label: "energy" },
] as const;

type Measure = (typeof MEASURES)[number]["value"];

const HELP: Record<Measure, string> = {
  relative:
    "Each layer's singular values over its largest, on a logarithmic scale. Dark at the left: few directions do the work.",
  absolute:
    "Singular values of the scaled delta in weight units, on a logarithmic scale. Bright rows change the model most.",
  energy: "Fraction of the layer's squared singular values that the first k hold: what rank k keeps of this layer.",
};

interface SpectrumHeatmapProps {
  spectra: Spectra;
  name: string;
  chosen: number[];
  toggle: (layer: number) => void;
}

/** Layers by singular index. Rows are grouped by component and block, as the model is built. */
export function SpectrumHeatmap({ spectra, name, chosen, toggle }: SpectrumHeatmapProps) {
  const { measure = "relative", component } = useSearch({ from: "/spectrum" });
  const navigate = useNavigate({ from: "/spectrum" });
  const components = useMemo(() => [...new Set(spectra.layers.map((layer) => layer.component))], [spectra]);
  const order = useMemo(
    () => orderRows(spectra.layers).filter((at) => !component || spectra.layers[at]!.component === component),
    [spectra, component],
  );
  const { raster, domain } = useMemo(() => rasterOf(spectra, order, measure), [spectra, order, measure]);
  const groups = useMemo(() => groupsOf(order.map((at) => spectra.layers[at]!)), [order, spectra]);
  const selected = useMemo(
    () => new Set(chosen.map((at) => order.indexOf(at)).filter((row) => row >= 0)),
    [chosen, order],
  );
  const format =
    measure === "energy" ? (value: number) => percent(value, 1) : (value: number) => number(10 ** value, 3);
  const set = (next: { measure?: Measure; component?: string }) =>
    void navigate({ search: (before) => ({ ...before, ...next }), replace: true });
  return (
    <Figure
      title="Singular values by layer"
      subject={name}
      help={HELP[measure]}
      table={() => ({
        columns: ["layer", "component", "block", "index", "singular_value"],
        rows: order.flatMap((at) => {
          const layer = spectra.layers[at]!;
          return Array.from({ length: layer.count }, (_, k) => [
            layer.name,
            layer.component,
            layer.block,
            k + 1,
            spectra.data[layer.offset + k]!,
          ]);
        }),
      })}
      controls={
        <>
          {components.length > 1 && (
            <Select
              size="xs"
              w={150}
              aria-label="Component"
              placeholder="All components"
              clearable
              data={components}
              value={component ?? null}
              onChange={(value) => set({ component: value ?? undefined })}
              clearButtonProps={{ "aria-label": "All components" }}
            />
          )}
          <SegmentedControl
            size="xs"
            aria-label="What the colour means"
            data={[...MEASURES]}
            value={measure}
            onChange={(value) => set({ measure: value === "relative" ? undefined : (value as Measure) })}
          />
        </>
      }
    >
      <Heatmap
        label={`Heatmap of ${order.length} layers by ${spectra.width} singular values, ${HELP[measure]}`}
        raster={raster}
        map="viridis"
        domain={domain}
        rowName={(row) => printable(spectra.layers[order[row]!]?.name ?? "")}
        columnName={(column) => `σ${column + 1}`}
        format={format}
        x="singular index"
        groups={groups}
        selected={selected}
        onPick={(row) => toggle(order[row]!)}
      />
      <Caption>
        A click or Enter chooses a layer; its curves appear below, Esc clears. Hatched: the layer has no such direction.
      </Caption>
    </Figure>
  );
}

const FLOOR = -3; // decades below the top that still get a colour of their own

function rasterOf(spectra: Spectra, order: number[], measure: Measure): { raster: Raster; domain: [number, number] } {
  const columns = spectra.width;
  const values = new Float32Array(order.length * columns).fill(Number.NaN);
  let high = Number.NEGATIVE_INFINITY;
  let low = Number.POSITIVE_INFINITY;
  const { kept } = measure === "energy" ? cumulativeEnergy(spectra) : { kept: [] };
  order.forEach((at, row) => {
    const layer = spectra.layers[at]!;
    for (let k = 0; k < layer.count; k += 1) {
      const sigma = spectra.data[layer.offset + k]!;
      let value: number;
      if (measure === "energy") {
        const whole = kept[at]!.at(-1)!;
        value = whole > 0 ? kept[at]![k + 1]! / whole : 1;
      } else {
        const over = measure === "relative" ? layer.largest : 1;
        value = sigma > 0 && over > 0 ? Math.log10(sigma / over) : Number.NEGATIVE_INFINITY;
      }
      values[row * columns + k] = value;
      if (Number.isFinite(value)) {
        high = Math.max(high, value);
        low = Math.min(low, value);
      }
    }
  });
  const domain: [number, number] =
    measure === "energy" ? [Math.min(low, 0.999), 1] : [Math.max(low, high + FLOOR), high];
  if (!(domain[1] > domain[0])) domain[0] = domain[1] - 1;
  return { raster: { rows: order.length, columns, at: (row, column) => values[row * columns + column]! }, domain };
}

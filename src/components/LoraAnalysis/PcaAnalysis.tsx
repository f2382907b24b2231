import { Badge, Button, Group, Stack, Tabs, Text, Title } from "@mantine/core";
import { IconChartHistogram } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo } from "react";
import { adapterRow } from "../../api/queries";
import { SPECTRUM_TABS } from "../../app/router";
import { count, number, percent, printable } from "../../lib/format";
import type { Spectra } from "../../lib/spectra";
import { Empty, ErrorState, Waiting } from "../ui/states";
import { AdapterPicker } from "./AdapterPicker";
import { BaseTab } from "./BaseTab";
import { ComponentsView } from "./ComponentsView";
import { DecayCurves } from "./DecayCurves";
import { ExplainedVariance } from "./ExplainedVariance";
import { PartsTable } from "./PartsTable";
import { SpectrumHeatmap } from "./SpectrumHeatmap";
import { useSpectra } from "./useSpectra";

/** Singular values of every layer's delta, and principal components: what an adapter learned, and how compactly. */
export default function PcaAnalysis() {
  const { id, tab = "spectrum" } = useSearch({ from: "/spectrum" });
  const navigate = useNavigate({ from: "/spectrum" });
  const row = useQuery({ ...adapterRow(id ?? ""), enabled: Boolean(id) });
  const found = useSpectra(id);
  const name = row.data?.name ?? "adapter";
  return (
    <Stack gap="md">
      <Group justify="space-between" align="flex-end">
        <Group align="flex-end" gap="lg">
          <Title order={1} size="h3">
            Spectrum
          </Title>
          <div className="picker">
            <AdapterPicker
              label="Adapter"
              value={id}
              onChange={(next) => void navigate({ search: { id: next.id, tab } })}
            />
          </div>
          {found.data && <Summary spectra={found.data} />}
        </Group>
        {id && (
          <Button variant="default" size="sm" onClick={() => void navigate({ to: "/resize", search: { id } })}>
            Resize this adapter
          </Button>
        )}
      </Group>
      {!id && (
        <Empty title="Whose spectrum?" icon={<IconChartHistogram size={42} stroke={1.3} aria-hidden />}>
          <Text size="sm">
            Choose an adapter above. Singular values are calculated from the factors, without forming the delta; most
            adapters take seconds.
          </Text>
        </Empty>
      )}
      {id && (
        <Tabs
          value={tab}
          onChange={(next) =>
            void navigate({
              search: (before) => ({ ...before, tab: SPECTRUM_TABS.find((one) => one === next && one !== "spectrum") }),
              replace: true,
            })
          }
          keepMounted={false}
        >
          <Tabs.List mb="md">
            <Tabs.Tab value="spectrum">Singular values</Tabs.Tab>
            <Tabs.Tab value="pca">Principal components</Tabs.Tab>
            <Tabs.Tab value="base">Beside the base</Tabs.Tab>
          </Tabs.List>
          <Tabs.Panel value="spectrum">
            {found.isLoading && (
              <Waiting what="Calculating singular values" done={found.progress?.done} total={found.progress?.total} />
            )}
            {found.isError && (
              <ErrorState error={found.error} title="No spectrum of this adapter" retry={() => void found.refetch()} />
            )}
            {found.data && <SpectrumView spectra={found.data} name={name} />}
          </Tabs.Panel>
          <Tabs.Panel value="pca">
            <ComponentsView id={id} name={name} />
          </Tabs.Panel>
          <Tabs.Panel value="base">
            <BaseTab id={id} name={name} />
          </Tabs.Panel>
        </Tabs>
      )}
    </Stack>
  );
}

function Summary({ spectra }: { spectra: Spectra }) {
  return (
    <Group gap="xs" pb={6}>
      <Badge variant="light" tt="none">
        ‖Δ‖ = {number(spectra.frobenius_norm, 4)}
      </Badge>
      <Badge variant="light" color="gray" tt="none">
        {count(spectra.layers.length)} spectra
      </Badge>
      {spectra.skipped.length > 0 && (
        <Badge
          variant="light"
          color="orange"
          tt="none"
          title={spectra.skipped
            .slice(0, 10)
            .map(({ name, reason }) => `${name}: ${reason}`)
            .join("\n")}
        >
          {count(spectra.skipped.length)} layers have none
        </Badge>
      )}
    </Group>
  );
}

function SpectrumView({ spectra, name }: { spectra: Spectra; name: string }) {
  const { layer: chosen = [] } = useSearch({ from: "/spectrum" });
  const navigate = useNavigate({ from: "/spectrum" });
  const indices = useMemo(() => {
    const places = new Map(spectra.layers.map((layer, at) => [layer.name, at]));
    return chosen.map((one) => places.get(one)).filter((at): at is number => at !== undefined);
  }, [spectra, chosen]);
  const toggle = (at: number) => {
    const layer = spectra.layers[at]!.name;
    const next = chosen.includes(layer) ? chosen.filter((one) => one !== layer) : [...chosen, layer].slice(-8);
    void navigate({ search: (before) => ({ ...before, layer: next.length ? next : undefined }), replace: true });
  };
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented)
        void navigate({ search: (before) => ({ ...before, layer: undefined }), replace: true });
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [navigate]);
  if (spectra.layers.length === 0) {
    return (
      <Empty title="No layer has a spectrum">
        {spectra.skipped.slice(0, 5).map(({ name: layer, reason }) => (
          <Text key={layer} size="sm">
            {printable(layer)}: {printable(reason)}
          </Text>
        ))}
      </Empty>
    );
  }
  return (
    <Stack>
      <SpectrumHeatmap spectra={spectra} name={name} chosen={indices} toggle={toggle} />
      {chosen.length > 0 && (
        <Group gap="xs">
          {indices.map((at) => (
            <Button
              key={at}
              size="compact-xs"
              variant="light"
              onClick={() => toggle(at)}
              aria-label={`Unselect ${spectra.layers[at]!.name}`}
              className="breakable"
            >
              {printable(spectra.layers[at]!.name)} · eff. rank {number(spectra.layers[at]!.effective_rank)} · k95{" "}
              {spectra.layers[at]!.rank_95} ·{" "}
              {percent(spectra.layers[at]!.frobenius_norm ** 2 / spectra.frobenius_norm ** 2)} of the energy ×
            </Button>
          ))}
        </Group>
      )}
      <div className="halves">
        <DecayCurves spectra={spectra} name={name} chosen={indices} />
        <ExplainedVariance spectra={spectra} name={name} chosen={indices} />
      </div>
      <PartsTable spectra={spectra} name={name} />
    </Stack>
  );
}

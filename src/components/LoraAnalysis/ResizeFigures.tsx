import { Group, Paper, SimpleGrid, Text } from "@mantine/core";
import type { Schemas } from "../../api/client";
import { bytes, count, percent } from "../../lib/format";
import type { Prediction } from "./usePrediction";

interface ResizeFiguresProps {
  prediction: Prediction | null;
  plan: Schemas["ResizePlan"] | undefined;
  isCurrent: boolean;
  sizeBefore: number;
  /** Of the whole adapter at the plan's ranks, where its spectra are known. */
  energyOfPlan: number | null;
  waiting?: { done: number; total: number | null };
}

/** The three numbers a decision needs. From the page while the slider moves, from the plan once it rests. */
export function ResizeFigures({ prediction, plan, isCurrent, sizeBefore, energyOfPlan, waiting }: ResizeFiguresProps) {
  const size = isCurrent && plan ? plan.size_after : (prediction?.bytes ?? null);
  const error = isCurrent && plan ? plan.relative_error : (prediction?.error ?? null);
  const energy = (isCurrent ? energyOfPlan : null) ?? prediction?.energy ?? null;
  const exact = isCurrent || prediction?.exact;
  const source = isCurrent ? "by the plan" : prediction ? "worked out in the page" : "the plan is being made";
  return (
    <Paper withBorder p="md" component="section" aria-label="Predicted result">
      <SimpleGrid cols={{ base: 1, sm: 3 }}>
        <Stat
          name="File"
          value={size === null ? "…" : `${exact ? "" : "≈ "}${bytes(size)}`}
          testid="predicted-size"
          title={size === null ? undefined : `${count(size)} bytes`}
        >
          {size === null ? "" : `${change(size, sizeBefore)} · ${count(size)} bytes`}
        </Stat>
        <Stat name="Energy kept" value={energy === null ? "…" : percent(energy, 2)} testid="predicted-energy">
          share of Σσ² over all layers
        </Stat>
        <Stat name="Error of the delta" value={error === null ? "…" : percent(error, 2)} testid="predicted-error">
          ‖Δ − Δ′‖ / ‖Δ‖ over all layers
        </Stat>
      </SimpleGrid>
      <Group justify="space-between" mt="xs">
        <Text size="xs" c="dimmed">
          About weights, not about pictures or text: a small error is no promise for either. Numbers {source}.
        </Text>
        {waiting && (
          <Text size="xs" c="dimmed" role="status">
            Singular values: {count(waiting.done)} of {count(waiting.total)} layers
          </Text>
        )}
      </Group>
    </Paper>
  );
}

function change(after: number, before: number): string {
  const share = after / before - 1;
  return share < 0 ? `${percent(-share, 0)} smaller` : share === 0 ? "same size" : `${percent(share, 0)} larger`;
}

export function Stat({
  name,
  value,
  children,
  testid,
  title,
}: {
  name: string;
  value: string;
  children?: React.ReactNode;
  testid?: string;
  title?: string;
}) {
  return (
    <div>
      <Text size="xs" c="dimmed" fw={600}>
        {name}
      </Text>
      <div className="stat" data-testid={testid} title={title}>
        {value}
      </div>
      <Text size="xs" c="dimmed">
        {children}
      </Text>
    </div>
  );
}

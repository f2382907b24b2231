import { ActionIcon, Button, Group, NumberInput, Paper, Slider, Stack, Switch, Text } from "@mantine/core";
import { IconX } from "@tabler/icons-react";
import { useQueries } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import type { Schemas } from "../../api/client";
import { adapterRow } from "../../api/queries";
import { bytes, printable, rankText } from "../../lib/format";

type Input = Schemas["MergeInput"];

/** Every input with its weight; switched off is weight 0, which leaves it out. */
export function MergeInputs({ inputs, onChange }: { inputs: Input[]; onChange: (next: Input[]) => void }) {
  const rows = useQueries({ queries: inputs.map((one) => adapterRow(one.adapter)) });
  const [local, setLocal] = useState(inputs);
  const before = useRef(new Map<string, number>());
  // Sliders answer at once; the link and the plan follow when they rest.
  const key = JSON.stringify(inputs);
  useEffect(() => setLocal(JSON.parse(key) as Input[]), [key]);
  useEffect(() => {
    if (JSON.stringify(local) === key) return;
    const timer = setTimeout(() => onChange(local), 250);
    return () => clearTimeout(timer);
  });
  const set = (at: number, weight: number) =>
    setLocal(local.map((one, place) => (place === at ? { ...one, weight } : one)));
  return (
    <Paper withBorder p="md" component="section" aria-label="Inputs and weights">
      <Stack gap="md">
        {local.map((one, at) => {
          const row = rows[at]?.data;
          const name = printable(row?.name ?? "…");
          return (
            <div key={one.adapter}>
              <Group justify="space-between" wrap="nowrap" gap="xs">
                <Text size="sm" fw={600} className="breakable">
                  {name}
                </Text>
                <Group gap={4} wrap="nowrap">
                  <Switch
                    size="xs"
                    aria-label={`${name} takes part`}
                    checked={one.weight !== 0}
                    onChange={(event) => {
                      if (event.currentTarget.checked) set(at, before.current.get(one.adapter) ?? 1);
                      else {
                        before.current.set(one.adapter, one.weight);
                        set(at, 0);
                      }
                    }}
                  />
                  <ActionIcon
                    size="sm"
                    variant="subtle"
                    color="gray"
                    aria-label={`Remove ${name}`}
                    onClick={() => onChange(inputs.filter((other) => other.adapter !== one.adapter))}
                  >
                    <IconX size={15} aria-hidden />
                  </ActionIcon>
                </Group>
              </Group>
              {row && (
                <Text size="xs" c="dimmed">
                  {[
                    row.base_model_label ?? row.base_model,
                    row.algorithm,
                    `rank ${rankText(row)}`,
                    bytes(row.size_bytes),
                  ]
                    .filter(Boolean)
                    .join(" · ")}
                </Text>
              )}
              <Group wrap="nowrap" gap="sm" mt={4}>
                <Slider
                  flex={1}
                  thumbLabel={`Weight of ${name}`}
                  label={null}
                  min={-2}
                  max={2}
                  step={0.05}
                  value={Math.min(2, Math.max(-2, one.weight))}
                  marks={[{ value: 0 }, { value: 1 }]}
                  onChange={(weight) => set(at, Number(weight.toFixed(2)))}
                />
                <NumberInput
                  aria-label={`Weight of ${name}, as a number`}
                  size="xs"
                  w={84}
                  step={0.05}
                  decimalScale={4}
                  value={one.weight}
                  onChange={(weight) => typeof weight === "number" && set(at, weight)}
                />
              </Group>
            </div>
          );
        })}
        <Group gap="xs">
          <Button
            size="compact-xs"
            variant="default"
            onClick={() => onChange(inputs.map((one) => ({ ...one, weight: 1 })))}
          >
            All 1
          </Button>
          <Button
            size="compact-xs"
            variant="default"
            onClick={() => onChange(inputs.map((one) => ({ ...one, weight: Number((1 / inputs.length).toFixed(4)) })))}
          >
            Equal shares
          </Button>
        </Group>
      </Stack>
    </Paper>
  );
}

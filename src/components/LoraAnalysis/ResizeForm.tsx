import { Group, NumberInput, Paper, Select, Slider, Stack, Text, TextInput } from "@mantine/core";
import { bytes } from "../../lib/format";
import { CheckpointSelect } from "./CheckpointSelect";
import { ALPHAS, type Choice, DTYPES, needsBase, RULES, shownValue, WITHOUT_NUMBER } from "./resizeOptions";

interface ResizeFormProps {
  choice: Choice;
  /** The largest rank that makes sense here. */
  top: number;
  sizeBefore: number;
  setChoice: (next: Partial<Choice>) => void;
}

export function ResizeForm({ choice, top, sizeBefore, setChoice }: ResizeFormProps) {
  const { rule, value } = choice;
  const max =
    rule.value === "rank" ? top : rule.value === "size" ? Math.max(1, Math.ceil(sizeBefore / 1e5) / 10) : rule.max;
  const digits = rule.step < 1 ? 3 : 0;
  const set = (next: number) => {
    if (Number.isFinite(next))
      setChoice({ value: Math.min(rule.value === "rank" ? 100_000 : max, Math.max(rule.min, next)) });
  };
  const marks =
    rule.value === "rank" ? [4, 8, 16, 32, 64].filter((rank) => rank < top).map((rank) => ({ value: rank })) : [];
  return (
    <Paper withBorder p="md" component="section" aria-label="How ranks are chosen">
      <Stack gap="sm">
        <Select
          label="Ranks by"
          description={rule.help}
          data={RULES.map(({ value: name, label }) => ({ value: name, label }))}
          value={rule.value}
          allowDeselect={false}
          onChange={(name) => {
            const next = RULES.find((one) => one.value === name);
            if (next)
              setChoice({
                rule: next,
                value:
                  next.value === "size"
                    ? Math.max(0.1, Math.round(sizeBefore / 2e5) / 10)
                    : next.value === "rank"
                      ? Math.max(1, Math.min(16, Math.ceil(top / 2)))
                      : next.start,
              });
          }}
          comboboxProps={{ withinPortal: true }}
        />
        {rule.value === "recipe" && (
          <TextInput
            label="Recipe"
            description="spn_lora, fro_lora, params, spn_ckpt, fro_ckpt with their weights; then thr, or size in MiB."
            value={choice.recipe}
            onChange={(event) => setChoice({ recipe: event.currentTarget.value })}
            spellCheck={false}
            className="mono"
          />
        )}
        {rule.value === "recipe" && needsBase(choice.recipe) && (
          <CheckpointSelect
            label="Base checkpoint"
            description="Its norms are calculated once and kept by the server."
            value={choice.base}
            onChange={(base) => setChoice({ base })}
          />
        )}
        {!WITHOUT_NUMBER.includes(rule.value) && (
          <>
            <Group justify="space-between" align="flex-end">
              <NumberInput
                label={rule.value === "rank" ? "Rank" : "Value"}
                w={120}
                value={value}
                min={rule.min}
                max={rule.value === "rank" ? undefined : max}
                step={rule.step}
                decimalScale={digits}
                onChange={(next) => typeof next === "number" && set(next)}
              />
              <Text fw={650} size="xl" className="num">
                {shownValue(rule, value)}
              </Text>
            </Group>
            <Slider
              thumbLabel={rule.value === "rank" ? "Rank" : rule.label}
              label={null}
              value={Math.min(value, max)}
              min={rule.min}
              max={Math.max(max, rule.min + rule.step)}
              step={rule.step}
              marks={marks}
              onChange={set}
            />
          </>
        )}
        {rule.value !== "rank" && (
          <NumberInput
            label="Largest rank"
            description="A bound on what the rule answers; empty for none."
            value={choice.maxRank ?? ""}
            min={1}
            allowDecimal={false}
            onChange={(next) => setChoice({ maxRank: typeof next === "number" && next >= 1 ? next : undefined })}
          />
        )}
        <Group grow align="flex-start">
          <Select
            label="Stored type"
            data={DTYPES}
            value={choice.dtype}
            allowDeselect={false}
            onChange={(dtype) => dtype && setChoice({ dtype })}
          />
          <Select
            label="Alpha"
            data={ALPHAS}
            value={choice.alpha}
            allowDeselect={false}
            onChange={(alpha) => alpha && setChoice({ alpha })}
          />
        </Group>
        <Text size="xs" c="dimmed">
          Now {bytes(sizeBefore)}. The input is never touched.
        </Text>
      </Stack>
    </Paper>
  );
}

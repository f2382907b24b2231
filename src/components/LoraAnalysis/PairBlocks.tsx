import { Group, Text } from "@mantine/core";
import type { ComparisonDocument } from "../../lib/comparison";
import { relation } from "../../lib/comparison";
import { number, printable } from "../../lib/format";
import { shortComponent } from "../../lib/layers";
import { BarList } from "../ui/BarChart";
import { Figure } from "../ui/Figure";
import { Empty } from "../ui/states";

/** One pair by block, with the sign: where they reinforce, where they cancel. */
export function PairBlocks({ found, pair }: { found: ComparisonDocument; pair: number }) {
  const one = found.pairs[pair];
  if (!one) return null;
  const names = [found.adapters[one.first]!.name, found.adapters[one.second]!.name].map((name) =>
    printable(name.replace(/\.safetensors$/, "")),
  );
  const bars = found.blocks
    .map((part) => ({ part, cosine: part.cosines[one.first]?.[one.second] ?? null }))
    .filter(({ cosine }) => cosine !== null)
    .map(({ part, cosine }) => ({
      name: `${shortComponent(part.component)} ${part.block ?? ""}`.trim(),
      value: cosine!,
      color: cosine! > 0 ? "#b2182b" : "#2166ac",
    }));
  return (
    <Figure
      title="Agreement by block"
      subject={`${names[0]}-and-${names[1]}`}
      help="Cosine of the two deltas within each block that both have. Positive: they push weights the same way and add up; negative: they undo each other."
      table={() => ({
        columns: ["block", "cosine", "relation"],
        rows: bars.map(({ name, value }) => [name, value, relation(value, one.chance_cosine)]),
      })}
    >
      <Text size="sm" mb="xs" className="breakable">
        <b>{names[0]}</b> and <b>{names[1]}</b>
      </Text>
      {bars.length ? (
        <BarList bars={bars} full={1} format={(value) => `${value > 0 ? "+" : ""}${number(value, 2)}`} />
      ) : (
        <Empty title="No block in common" />
      )}
      <Group gap="lg" mt="xs">
        <Text size="xs" c="dimmed">
          chance: ± {number(one.chance_cosine)} · in {one.layers_compared} common layers
        </Text>
      </Group>
    </Figure>
  );
}

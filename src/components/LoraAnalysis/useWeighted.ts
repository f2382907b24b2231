import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";

interface Weighted {
  adapter: string;
  weight: number;
}

/** Adapters with their weights, as they stand in the address. */
export function useWeighted() {
  const { ids, weights } = useSearch({ strict: false });
  const navigate = useNavigate();
  const inputs = useMemo(
    () => (ids ?? []).map((adapter, at): Weighted => ({ adapter, weight: weightOf(weights?.[at]) })),
    [ids, weights],
  );
  const set = (next: Weighted[]) =>
    void navigate({
      to: ".",
      search: (before) => ({
        ...before,
        ids: next.length ? next.map((one) => one.adapter) : undefined,
        weights: next.length ? next.map((one) => String(one.weight)) : undefined,
      }),
      replace: true,
    });
  const add = (adapter: string) => {
    if (!inputs.some((one) => one.adapter === adapter)) set([...inputs, { adapter, weight: 1 }]);
  };
  return { inputs, set, add };
}

function weightOf(text: string | undefined): number {
  const value = Number(text ?? 1);
  return Number.isFinite(value) && Math.abs(value) <= 1e6 ? value : 1;
}

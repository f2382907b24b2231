import { useQueries, useQuery } from "@tanstack/react-query";
import { useCallback, useState } from "react";
import type { AdapterRow } from "../../api/client";
import { type LibraryFilters, libraryPage } from "../../api/queries";

const PAGE = 200;

/** Rows of a library of any size: the pages in sight are fetched, the rest when it is scrolled to. */
export function usePagedLibrary(filters: LibraryFilters) {
  const [range, setRange] = useState<[number, number]>([0, 0]);
  const first = useQuery(libraryPage(filters, 0, PAGE));
  const total = first.data?.total ?? 0;
  const last = Math.max(0, Math.ceil(total / PAGE) - 1);
  const wanted = new Set([
    Math.floor(range[0] / PAGE),
    Math.floor(range[1] / PAGE),
    Math.floor((range[1] + PAGE / 3) / PAGE),
  ]);
  const pages = [...wanted].filter((page) => page > 0 && page <= last);
  const others = useQueries({
    queries: pages.map((page) => ({ ...libraryPage(filters, page * PAGE, PAGE), placeholderData: undefined })),
  });
  const rowAt = (index: number): AdapterRow | undefined => {
    const page = Math.floor(index / PAGE);
    if (page === 0) return first.data?.items[index];
    return others[pages.indexOf(page)]?.data?.items[index - page * PAGE];
  };
  const onRange = useCallback((from: number, to: number) => {
    setRange((known) =>
      Math.floor(known[0] / 50) === Math.floor(from / 50) && Math.floor(known[1] / 50) === Math.floor(to / 50)
        ? known
        : [from, to],
    );
  }, []);
  return { first, total, rowAt, onRange };
}

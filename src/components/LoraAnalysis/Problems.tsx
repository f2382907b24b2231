import type { AdapterRow } from "../../api/client";
import { printable } from "../../lib/format";

/** Health in words and colour: never in colour alone. */
export function Problems({ row }: { row: AdapterRow }) {
  if (row.error)
    return (
      <span className="mark-red" title={printable(row.error.message)}>
        unreadable
      </span>
    );
  if (row.errors === 0 && row.warnings === 0 && row.duplicates === 0)
    return <span style={{ color: "var(--mantine-color-dimmed)" }}>fine</span>;
  return (
    <>
      {row.errors > 0 && (
        <span className="mark-red">
          {row.errors} error{row.errors === 1 ? "" : "s"}
        </span>
      )}
      {row.errors === 0 && row.warnings > 0 && (
        <span className="mark-orange">
          {row.warnings} note{row.warnings === 1 ? "" : "s"}
        </span>
      )}
      {row.duplicates > 0 && (
        <span className="mark-gray" title="Another file states the same hash of its weights">
          copy
        </span>
      )}
    </>
  );
}

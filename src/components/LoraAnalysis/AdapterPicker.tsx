import { Combobox, Group, InputBase, ScrollArea, Text, useCombobox } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { AdapterRow } from "../../api/client";
import { adapterRow, libraryPage } from "../../api/queries";
import { bytes, printable, rankText } from "../../lib/format";

interface AdapterPickerProps {
  label: string;
  value?: string;
  onChange: (row: AdapterRow) => void;
  placeholder?: string;
  /** Kept empty after a choice: for lists that grow. */
  adding?: boolean;
}

/** Chooses one adapter of the library by typing a part of its name. */
export function AdapterPicker({
  label,
  value,
  onChange,
  placeholder = "Choose an adapter",
  adding = false,
}: AdapterPickerProps) {
  const box = useCombobox({ onDropdownClose: () => setWords(null) });
  const [words, setWords] = useState<string | null>(null);
  const [asked] = useDebouncedValue(words ?? "", 120);
  const current = useQuery({ ...adapterRow(value ?? ""), enabled: Boolean(value) && !adding });
  const found = useQuery({
    ...libraryPage({ q: asked || undefined, sort: "name", problems: undefined }, 0, 50),
    enabled: box.dropdownOpened,
  });
  const shown = words ?? (adding ? "" : printable(current.data?.name ?? ""));
  const rows = found.data?.items.filter((row) => row.error === null && !row.checkpoint) ?? [];
  return (
    <Combobox
      store={box}
      onOptionSubmit={(id) => {
        const row = rows.find((one) => one.id === id);
        if (row) onChange(row);
        setWords(null);
        box.closeDropdown();
      }}
    >
      <Combobox.Target>
        <InputBase
          label={label}
          placeholder={placeholder}
          value={shown}
          rightSection={<Combobox.Chevron />}
          rightSectionPointerEvents="none"
          onChange={(event) => {
            setWords(event.currentTarget.value);
            box.openDropdown();
            box.updateSelectedOptionIndex();
          }}
          onClick={() => box.openDropdown()}
          onFocus={(event) => event.currentTarget.select()}
          onBlur={() => box.closeDropdown()}
        />
      </Combobox.Target>
      <Combobox.Dropdown>
        <Combobox.Options aria-label={label}>
          <ScrollArea.Autosize mah={280} type="auto">
            {rows.map((row) => (
              <Combobox.Option key={row.id} value={row.id}>
                <Text size="sm" className="breakable">
                  {printable(row.name)}
                </Text>
                <Group gap="xs">
                  <Text size="xs" c="dimmed">
                    {[
                      row.base_model_label ?? row.base_model,
                      row.algorithm,
                      row.rank && `rank ${rankText(row)}`,
                      bytes(row.size_bytes),
                    ]
                      .filter(Boolean)
                      .join(" · ")}
                  </Text>
                </Group>
              </Combobox.Option>
            ))}
            {found.isSuccess && rows.length === 0 && <Combobox.Empty>Nothing of that name</Combobox.Empty>}
          </ScrollArea.Autosize>
        </Combobox.Options>
      </Combobox.Dropdown>
    </Combobox>
  );
}

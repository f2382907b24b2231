import { Kbd, Modal, Table } from "@mantine/core";
import { SCREENS } from "./Shell";

const SHORTCUTS: [string[], string][] = [
  [["/"], "Search the library"],
  [["Ctrl", "K"], "Everything, by name"],
  [["?"], "This list"],
  ...SCREENS.map(({ key, name }): [string[], string] => [["g", key], name]),
  [["↑", "↓"], "Move in tables and heatmaps; Enter opens"],
  [["Esc"], "Close, or clear a selection"],
];

/** Every key that does something on every screen. */
export default function Shortcuts({ onClose }: { onClose: () => void }) {
  return (
    <Modal opened onClose={onClose} title="Keyboard">
      <Table>
        <Table.Tbody>
          {SHORTCUTS.map(([keys, what]) => (
            <Table.Tr key={what}>
              <Table.Td w={130}>
                {keys.map((key) => (
                  <Kbd key={key} mr={4}>
                    {key}
                  </Kbd>
                ))}
              </Table.Td>
              <Table.Td>{what}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Modal>
  );
}

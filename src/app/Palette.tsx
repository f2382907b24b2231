import "@mantine/spotlight/styles.css";
import { Spotlight, spotlight } from "@mantine/spotlight";
import { IconKeyboard, IconUpload } from "@tabler/icons-react";
import { useNavigate } from "@tanstack/react-router";
import { useEffect } from "react";
import { SCREENS } from "./Shell";

/** Everything by name; open from the moment it is there. */
export default function Palette({ openHelp, pick }: { openHelp: () => void; pick: () => void }) {
  const navigate = useNavigate();
  useEffect(() => spotlight.open(), []);
  const actions = [
    ...SCREENS.map(({ to, name, icon: Icon }) => ({
      id: to,
      label: name,
      leftSection: <Icon size={20} aria-hidden />,
      onClick: () => void navigate({ to }),
    })),
    { id: "open", label: "Open a file", leftSection: <IconUpload size={20} aria-hidden />, onClick: pick },
    { id: "keys", label: "Keyboard shortcuts", leftSection: <IconKeyboard size={20} aria-hidden />, onClick: openHelp },
  ];
  return (
    <Spotlight
      actions={actions}
      shortcut="mod + K"
      nothingFound="Nothing of that name"
      highlightQuery
      searchProps={{ "aria-label": "What to open", placeholder: "Screens and actions" }}
    />
  );
}

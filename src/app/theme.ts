import { createTheme, type MantineColorsTuple } from "@mantine/core";

const teal: MantineColorsTuple = [
  "#e8f7f8",
  "#d3ecee",
  "#a5d9dd",
  "#74c5cb",
  "#4db4bc",
  "#34a9b2",
  "#1f9aa4",
  "#177f88",
  "#126c74",
  "#0b565d",
];

export const theme = createTheme({
  colors: { brand: teal },
  primaryColor: "brand",
  // 8 on white and 4 on the dark ground keep 4.5:1 for text.
  primaryShade: { light: 8, dark: 7 },
  autoContrast: true,
  respectReducedMotion: true,
  defaultRadius: "md",
  cursorType: "pointer",
  fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif',
  fontFamilyMonospace: 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
  headings: { fontWeight: "650" },
  components: {
    // Mantine's default close button has no name.
    Notification: { defaultProps: { closeButtonProps: { "aria-label": "Dismiss" }, withBorder: true } },
    Badge: { styles: { root: { textTransform: "none" }, label: { fontWeight: 600 } } },
    Tooltip: { defaultProps: { openDelay: 250, withArrow: true } },
    // Their heads are <header> elements, which would be a second banner of the page.
    Modal: { defaultProps: { closeButtonProps: { "aria-label": "Close" }, attributes: { header: { role: "none" } } } },
    Drawer: { defaultProps: { closeButtonProps: { "aria-label": "Close" }, attributes: { header: { role: "none" } } } },
  },
});

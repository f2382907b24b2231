import { ActionIcon, Box, Group, Menu, Paper, Text, Title, Tooltip } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconDotsVertical, IconHelpCircle, IconTable } from "@tabler/icons-react";
import { type ReactNode, useId, useRef, useState } from "react";
import { exportName, pngBlob, save, svgDocument, type Table, toCsv, toJson, toTsv } from "../../lib/export";
import { PlainTable } from "./PlainTable";

interface FigureProps {
  title: string;
  /** Whose figure it is; names the exported files. */
  subject: string;
  /** The drawn numbers, asked for when somebody wants them. */
  table: () => Table;
  /** What is drawn and how it is defined. */
  help?: string;
  controls?: ReactNode;
  children: ReactNode;
}

/** A drawing with its title, its numbers as a table, and the same four exports everywhere. */
export function Figure({ title, subject, table, help, controls, children }: FigureProps) {
  const body = useRef<HTMLDivElement>(null);
  const heading = useId();
  const [asTable, setAsTable] = useState(false);
  const drawing = () => body.current?.querySelector<SVGSVGElement>("svg[data-figure]") ?? null;
  const ground = () => getComputedStyle(document.body).backgroundColor;
  const name = (suffix: string) => exportName(subject, title.toLowerCase(), suffix);

  const asSvg = () => {
    const svg = drawing();
    if (svg) save(name("svg"), svgDocument(svg, ground()), "image/svg+xml;charset=utf-8");
  };
  const asPng = async () => {
    const svg = drawing();
    if (!svg) return;
    try {
      save(name("png"), await pngBlob(svg, ground()));
    } catch (error) {
      const message = error instanceof Error ? error.message : "the picture could not be drawn";
      notifications.show({ title: "No PNG was made", message, color: "red", autoClose: false });
    }
  };

  return (
    <Paper component="section" withBorder p="md" radius="md" aria-labelledby={heading} className="figure">
      <Group justify="space-between" gap="xs" mb="xs" align="flex-start">
        <Group gap={6} wrap="nowrap">
          <Title order={2} size="h5" id={heading}>
            {title}
          </Title>
          {help && (
            <Tooltip label={help} multiline w={320} withArrow events={{ hover: true, focus: true, touch: true }}>
              <ActionIcon size="sm" variant="subtle" color="gray" aria-label={`What ${title} shows: ${help}`}>
                <IconHelpCircle size={16} aria-hidden />
              </ActionIcon>
            </Tooltip>
          )}
        </Group>
        <Group gap={4} wrap="nowrap" ml="auto">
          {controls}
          <Tooltip label={asTable ? "Show the drawing" : "Show the numbers"}>
            <ActionIcon
              variant={asTable ? "light" : "subtle"}
              color="gray"
              aria-label={`${title} as a table`}
              aria-pressed={asTable}
              onClick={() => setAsTable(!asTable)}
            >
              <IconTable size={18} aria-hidden />
            </ActionIcon>
          </Tooltip>
          <Menu position="bottom-end" withinPortal>
            <Menu.Target>
              <ActionIcon variant="subtle" color="gray" aria-label={`Export ${title}`}>
                <IconDotsVertical size={18} aria-hidden />
              </ActionIcon>
            </Menu.Target>
            <Menu.Dropdown>
              <Menu.Item disabled={asTable} onClick={asPng}>
                PNG picture
              </Menu.Item>
              <Menu.Item disabled={asTable} onClick={asSvg}>
                SVG drawing
              </Menu.Item>
              <Menu.Item onClick={() => save(name("csv"), toCsv(table()), "text/csv;charset=utf-8")}>
                CSV table
              </Menu.Item>
              <Menu.Item onClick={() => save(name("json"), toJson(table()), "application/json")}>JSON</Menu.Item>
              <Menu.Item onClick={() => void navigator.clipboard.writeText(toTsv(table()))}>Copy as table</Menu.Item>
            </Menu.Dropdown>
          </Menu>
        </Group>
      </Group>
      <Box ref={body}>{asTable ? <PlainTable table={table()} caption={title} /> : children}</Box>
    </Paper>
  );
}

/** One quiet line under a figure. */
export function Caption({ children }: { children: ReactNode }) {
  return (
    <Text size="xs" c="dimmed" mt={6}>
      {children}
    </Text>
  );
}

import { Alert, Stack, Text } from "@mantine/core";
import { IconAlertTriangle, IconCircleCheck, IconCircleX, IconInfoCircle } from "@tabler/icons-react";
import type { Schemas } from "../../api/client";
import { printable } from "../../lib/format";

const LOOKS = {
  error: { color: "red", icon: <IconCircleX aria-hidden />, title: "Error" },
  warning: { color: "orange", icon: <IconAlertTriangle aria-hidden />, title: "Worth knowing" },
  info: { color: "blue", icon: <IconInfoCircle aria-hidden />, title: "Note" },
} as const;

export function HealthTab({ findings }: { findings: Schemas["FindingInfo"][] }) {
  if (findings.length === 0) {
    return (
      <Alert color="teal" variant="light" icon={<IconCircleCheck aria-hidden />} title="Nothing found">
        <Text size="sm" c="var(--mantine-color-text)">
          The headers are sound. “Check values” reads the whole file and looks for NaN and infinity as well.
        </Text>
      </Alert>
    );
  }
  return (
    <Stack gap="xs">
      {findings.map((finding, at) => {
        const look = LOOKS[finding.severity];
        return (
          <Alert key={at} color={look.color} variant="light" icon={look.icon} title={`${look.title} · ${finding.code}`}>
            <Text size="sm" className="breakable" c="var(--mantine-color-text)">
              {printable(finding.message)}
            </Text>
            {finding.layer && (
              <Text size="xs" className="mono breakable" c="var(--mantine-color-text)">
                {printable(finding.layer)}
              </Text>
            )}
          </Alert>
        );
      })}
    </Stack>
  );
}

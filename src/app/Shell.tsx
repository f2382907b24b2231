import {
  ActionIcon,
  AppShell,
  Badge,
  Box,
  Group,
  Indicator,
  Kbd,
  Text,
  TextInput,
  useMantineColorScheme,
} from "@mantine/core";
import { useDisclosure, useHotkeys } from "@mantine/hooks";
import {
  IconArrowsDiff,
  IconArrowsMinimize,
  IconArrowsSplit,
  IconBooks,
  IconChartHistogram,
  IconFileSearch,
  IconFlame,
  IconGitMerge,
  IconKeyboard,
  IconListDetails,
  IconMoon,
  IconSearch,
  IconSun,
  IconTransform,
  IconUpload,
} from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useLocation, useNavigate } from "@tanstack/react-router";
import { type FormEvent, lazy, Suspense, useEffect, useRef, useState } from "react";
import { jobs as jobsQuery, serverInfo } from "../api/queries";
import { Hint } from "../components/ui/Hint";
import { localFile } from "../lib/localFile";
import { DropZone } from "./DropZone";
import { JobStream } from "./JobStream";
import { Later } from "./Later";
import { Tray, useTray } from "./Tray";
import { VersionCheck } from "./VersionCheck";

// Asked for by few, so it comes when it is first asked for.
const Shortcuts = lazy(() => import("./Shortcuts"));
const Palette = lazy(() => import("./Palette"));

export const SCREENS = [
  { to: "/library", name: "Library", key: "l", icon: IconBooks },
  { to: "/inspect", name: "Inspect", key: "i", icon: IconFileSearch },
  { to: "/spectrum", name: "Spectrum", key: "s", icon: IconChartHistogram },
  { to: "/resize", name: "Resize", key: "r", icon: IconArrowsMinimize },
  { to: "/merge", name: "Merge", key: "m", icon: IconGitMerge },
  { to: "/convert", name: "Convert", key: "v", icon: IconTransform },
  { to: "/bake", name: "Bake", key: "b", icon: IconFlame },
  { to: "/extract", name: "Extract", key: "x", icon: IconArrowsSplit },
  { to: "/compare", name: "Compare", key: "c", icon: IconArrowsDiff },
  { to: "/jobs", name: "Jobs", key: "j", icon: IconListDetails },
] as const;

/** The frame around every screen. */
export function Shell() {
  const pinned = useTray();
  const location = useLocation();
  const navigate = useNavigate();
  const [help, { open: openHelp, close: closeHelp }] = useDisclosure(false);
  const picker = useRef<HTMLInputElement>(null);
  const { data: jobs } = useQuery(jobsQuery);
  const running =
    jobs?.filter((job) => (job.state === "running" || job.state === "queued") && job.family !== "analysis").length ?? 0;
  const [palette, { open: openPalette }] = useDisclosure(false);
  useScreenKeys(navigate, openHelp, openPalette);

  // A new screen is announced by its title, and read from its top.
  useEffect(() => {
    const screen = SCREENS.find(({ to }) => to === location.pathname);
    document.title = screen ? `${screen.name} · LoRA Analysis` : "LoRA Analysis";
  }, [location.pathname]);

  const pick = (file: File | undefined) => {
    if (!file) return;
    localFile.set(file);
    void navigate({ to: "/inspect", search: { local: true } });
  };
  return (
    <AppShell
      header={{ height: 52 }}
      navbar={{ width: 78, breakpoint: 0 }}
      footer={{ height: pinned.length ? 48 : 0 }}
      padding="md"
    >
      <a className="skip" href="#main">
        Skip to the content
      </a>
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <div className="brand">
            <img src="/favicon.svg" width={26} height={26} alt="" />
            LoRA Analysis
          </div>
          <OpenBox />
          <Group gap={6} wrap="nowrap">
            <input
              ref={picker}
              type="file"
              hidden
              aria-label="A file to inspect"
              accept=".safetensors,.sft,.pt,.bin,.ckpt,.pth,.gguf"
              onChange={(event) => pick(event.currentTarget.files?.[0])}
            />
            <Hint label="Look into a file; nothing is uploaded">
              <ActionIcon
                variant="subtle"
                color="gray"
                size="lg"
                aria-label="Open a file"
                onClick={() => picker.current?.click()}
              >
                <IconUpload size={19} aria-hidden />
              </ActionIcon>
            </Hint>
            {running > 0 && (
              <Badge
                component="a"
                href="/jobs"
                onClick={(event: React.MouseEvent) => {
                  event.preventDefault();
                  void navigate({ to: "/jobs" });
                }}
                variant="light"
                style={{ cursor: "pointer" }}
              >
                {running} running
              </Badge>
            )}
            <SchemeButton />
            <Box visibleFrom="xs">
              <Hint label="Keyboard shortcuts">
                <ActionIcon variant="subtle" color="gray" size="lg" aria-label="Keyboard shortcuts" onClick={openHelp}>
                  <IconKeyboard size={20} aria-hidden />
                </ActionIcon>
              </Hint>
            </Box>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar>
        <nav className="rail" aria-label="Screens">
          {SCREENS.map(({ to, name, icon: Icon }) => (
            <Link
              key={to}
              to={to}
              data-active={location.pathname === to || undefined}
              aria-current={location.pathname === to ? "page" : undefined}
            >
              <Indicator disabled={to !== "/jobs" || running === 0} size={8} processing color="orange">
                <Icon size={22} stroke={1.6} aria-hidden />
              </Indicator>
              {name}
            </Link>
          ))}
        </nav>
        <Version />
      </AppShell.Navbar>
      <AppShell.Main id="main">
        <Outlet />
      </AppShell.Main>
      {pinned.length > 0 && (
        <AppShell.Footer>
          <Tray />
        </AppShell.Footer>
      )}
      {palette && (
        <Suspense>
          <Palette openHelp={openHelp} pick={() => picker.current?.click()} />
        </Suspense>
      )}
      {help && (
        <Suspense>
          <Shortcuts onClose={closeHelp} />
        </Suspense>
      )}
      <DropZone onFile={pick} />
      <JobStream />
      <Later />
      <VersionCheck />
    </AppShell>
  );
}

function Version() {
  const { data } = useQuery(serverInfo);
  return (
    <Box mt="auto" pb="sm" ta="center">
      <Text size="xs" c="dimmed">
        {data ? `v${data.version}` : ""}
      </Text>
    </Box>
  );
}

function OpenBox() {
  const navigate = useNavigate();
  const [words, setWords] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void navigate({ to: "/library", search: { q: words.trim() || undefined } });
  };
  return (
    <Box component="form" onSubmit={submit} flex={1} maw={460} role="search">
      <TextInput
        id="open-box"
        aria-label="Search the library"
        placeholder="Search the library, or drop a file anywhere"
        leftSection={<IconSearch size={16} aria-hidden />}
        rightSection={<Kbd size="xs">/</Kbd>}
        value={words}
        onChange={(event) => setWords(event.currentTarget.value)}
        size="sm"
      />
    </Box>
  );
}

function SchemeButton() {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const isDark =
    colorScheme === "dark" || (colorScheme === "auto" && window.matchMedia("(prefers-color-scheme: dark)").matches);
  return (
    <Hint label={isDark ? "Light colours" : "Dark colours"}>
      <ActionIcon
        variant="subtle"
        color="gray"
        size="lg"
        aria-label={isDark ? "Use light colours" : "Use dark colours"}
        onClick={() => setColorScheme(isDark ? "light" : "dark")}
      >
        {isDark ? <IconSun size={19} aria-hidden /> : <IconMoon size={19} aria-hidden />}
      </ActionIcon>
    </Hint>
  );
}

/** `g` then a letter goes to a screen; `/` searches; `?` helps. Not while typing. */
function useScreenKeys(navigate: ReturnType<typeof useNavigate>, openHelp: () => void, openPalette: () => void) {
  const armed = useRef(0);
  useHotkeys([
    ["/", () => document.getElementById("open-box")?.focus()],
    ["mod + K", openPalette],
  ]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement | null;
      if (
        event.ctrlKey ||
        event.metaKey ||
        event.altKey ||
        target?.closest("input, textarea, select, [contenteditable]")
      )
        return;
      if (event.key === "?") openHelp();
      else if (event.key === "g") armed.current = event.timeStamp;
      else if (event.timeStamp - armed.current < 1200) {
        armed.current = 0;
        const screen = SCREENS.find(({ key }) => key === event.key);
        if (screen) void navigate({ to: screen.to });
      }
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [navigate, openHelp]);
}

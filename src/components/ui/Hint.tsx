import { cloneElement, type ReactElement, useEffect, useId, useState } from "react";

const DELAY = 250;

interface HintProps {
  label: string;
  children: ReactElement<{ "aria-describedby"?: string }>;
}

/**
 * What a control does, in words below it, while the pointer or the keyboard is on it; Escape hides it.
 *
 * For the frame, whose controls stand where there is room below them. Mantine's tooltip finds a place anywhere, and is
 * 30 kB of what the first screen would have to fetch.
 */
export function Hint({ label, children }: HintProps) {
  const [wanted, setWanted] = useState(false);
  const [shown, setShown] = useState(false);
  const id = useId();
  useEffect(() => {
    if (!wanted) {
      setShown(false);
      return;
    }
    const timer = setTimeout(() => setShown(true), DELAY);
    const onKey = (event: KeyboardEvent) => event.key === "Escape" && setWanted(false);
    window.addEventListener("keydown", onKey);
    return () => {
      clearTimeout(timer);
      window.removeEventListener("keydown", onKey);
    };
  }, [wanted]);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: it watches the control inside, which has the role
    <span
      className="hint"
      onPointerEnter={() => setWanted(true)}
      onPointerLeave={() => setWanted(false)}
      onPointerDown={() => setWanted(false)}
      onFocus={(event) => setWanted(event.target.matches(":focus-visible"))}
      onBlur={() => setWanted(false)}
    >
      {shown ? cloneElement(children, { "aria-describedby": id }) : children}
      {shown && (
        <span role="tooltip" id={id}>
          {label}
        </span>
      )}
    </span>
  );
}

// Before the first paint, so that a dark page does not flash white. A file of its own: the
// Content-Security-Policy allows no inline script.
(() => {
  let wanted = "auto";
  try {
    wanted = window.localStorage.getItem("mantine-color-scheme-value") || "auto";
  } catch {
    // Storage may be forbidden; the system's scheme is a fine answer then.
  }
  const dark = wanted === "dark" || (wanted !== "light" && window.matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.setAttribute("data-mantine-color-scheme", dark ? "dark" : "light");
})();

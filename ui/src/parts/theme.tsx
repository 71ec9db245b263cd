// Light or dark theme: the system's, or the choice stored in this browser.
import { useState } from "preact/hooks";

type Theme = "auto" | "light" | "dark";
const KEY = "forebay-theme";
const NEXT: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
const NAMES: Record<Theme, string> = { auto: "System", light: "Light", dark: "Dark" };

function stored(): Theme {
  const value = localStorage.getItem(KEY);
  return value === "light" || value === "dark" ? value : "auto";
}

/** Applies the theme, before the first rendering. */
export function applyTheme(theme: Theme = stored()): void {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function ThemeSwitch() {
  const [theme, setTheme] = useState(stored);
  const change = () => {
    const next = NEXT[theme];
    localStorage.setItem(KEY, next);
    applyTheme(next);
    setTheme(next);
  };
  return (
    <button type="button" class="small quiet theme" onClick={change} aria-label={`Theme: ${NAMES[theme]}. Change`}>
      <svg viewBox="0 0 16 16" aria-hidden="true" focusable="false">
        <circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" stroke-width="1.6" />
        <path d="M8 2a6 6 0 0 1 0 12z" fill="currentColor" />
      </svg>
      <span>{NAMES[theme]}</span>
    </button>
  );
}

// What is asked again and again while somebody looks at it.
import { useEffect, useRef, useState } from "preact/hooks";
import { asFailure, call, type Failure } from "./api";

/** Longest time between two attempts while the server does not answer, milliseconds. */
const BACKOFF_MAX = 30_000;

/** An answer that took a second is asked for again after so many seconds, at least. */
const REST = 4;

export interface Feed<T> {
  /** The last answer; stays while later ones fail. */
  data: T | undefined;
  /** Why the last attempt has failed. */
  error: Failure | undefined;
  /** Asks now. */
  refresh: () => void;
}

/**
 * Polls `path` every `every` milliseconds, and more seldom where an answer takes long: the server
 * is to be at rest most of the time. Nothing while the tab is hidden. Failures double the time. At
 * most one request is under way, and leaving the page aborts it.
 */
export function useFeed<T>(path: string | undefined, every: number, seen?: (data: T) => void): Feed<T> {
  const [state, setState] = useState<{ path: string | undefined; data?: T; error?: Failure }>({ path });
  const refresh = useRef<() => void>(() => undefined);
  const onData = useRef(seen);
  onData.current = seen;

  useEffect(() => {
    if (path === undefined) return undefined;
    const control = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let failures = 0;
    let running = false;
    let again = false;

    const look = async () => {
      clearTimeout(timer);
      if (running) {
        again = true;
        return;
      }
      if (document.hidden) return;
      running = true;
      const began = performance.now();
      try {
        const data = await call<T>("GET", path, undefined, control.signal);
        if (control.signal.aborted) return;
        failures = 0;
        onData.current?.(data);
        setState({ path, data });
      } catch (error) {
        if (control.signal.aborted) return;
        failures += 1;
        setState((before) =>
          before.path === path && before.data !== undefined
            ? { path, data: before.data, error: asFailure(error) }
            : { path, error: asFailure(error) },
        );
      } finally {
        running = false;
      }
      const pace = Math.max(every, REST * (performance.now() - began));
      const wait = again ? 0 : Math.min(pace * 2 ** failures, Math.max(every, BACKOFF_MAX));
      again = false;
      timer = setTimeout(() => void look(), wait);
    };
    const onVisible = () => {
      if (!document.hidden) void look();
    };
    refresh.current = () => void look();
    document.addEventListener("visibilitychange", onVisible);
    void look();
    return () => {
      control.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisible);
    };
  }, [path, every]);

  const current = state.path === path ? state : { data: undefined, error: undefined };
  return { data: current.data, error: current.error, refresh: () => refresh.current() };
}

// Polls the API while a page is visible.
import { useEffect, useRef, useState } from "preact/hooks";
import { asFailure, call, type Failure } from "./api";

/** Maximum backoff while the server is unavailable, milliseconds. */
const BACKOFF_MAX = 30_000;

/** Minimum poll interval, as a multiple of the response time. */
const REST = 4;

export interface Feed<T> {
  /** The last response; kept while later requests fail. */
  data: T | undefined;
  /** Error of the last request. */
  error: Failure | undefined;
  /** Polls now. */
  refresh: () => void;
}

/**
 * Polls `path` every `every` milliseconds, and less often if responses are slow, to limit the load of
 * the server. Stops while the tab is hidden. Failures double the interval. At most one request is in
 * flight; leaving the page aborts it.
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
      const interval = Math.max(every, REST * (performance.now() - began));
      const wait = again ? 0 : Math.min(interval * 2 ** failures, Math.max(every, BACKOFF_MAX));
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

// The dashboard: login, and pages routed by the part of the URL after `#`.
import { render, type ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ORIGIN, session } from "./api";
import { Login } from "./pages/login";
import { Playground } from "./pages/playground";
import { SinkPage } from "./pages/sink";
import { SourcePage } from "./pages/source";
import { Sources } from "./pages/sources";
import { onAnnounce, type Announcement } from "./parts/announce";
import { applyTheme, ThemeSwitch } from "./parts/theme";
import { forget } from "./rates";

/** The parts of the URL after `#/`. */
function route(): string[] {
  try {
    return location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return ["?"];
  }
}

function Announcements() {
  const [current, setCurrent] = useState<Announcement>();
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    onAnnounce((next) => {
      setCurrent(next);
      clearTimeout(timer);
      timer = setTimeout(() => setCurrent(undefined), 6000);
    });
    return () => clearTimeout(timer);
  }, []);
  return (
    <div class={current?.quiet ? "visually-hidden" : "announcement"} role="status" aria-live="polite">
      {current && <p>{current.text}</p>}
    </div>
  );
}

/** Polls the readiness of the node that serves this page, twice a minute. */
function useReadiness(): string {
  const [causes, setCauses] = useState("");
  useEffect(() => {
    const control = new AbortController();
    const look = async () => {
      if (document.hidden) return;
      try {
        const response = await fetch(`${ORIGIN}/health/ready`, { signal: control.signal, cache: "no-store" });
        const body = (await response.json()) as { causes?: { part: string; cause: string }[] };
        setCauses((body.causes ?? []).map((c) => `${c.part}: ${c.cause}`).join("; "));
      } catch {
        // The pages report an unavailable server.
      }
    };
    void look();
    const timer = setInterval(() => void look(), 30_000);
    return () => {
      control.abort();
      clearInterval(timer);
    };
  }, []);
  return causes;
}

function Layout({ children, page, onLogout }: { children: ComponentChildren; page: string; onLogout?: () => void }) {
  const main = useRef<HTMLElement>(null);
  const causes = useReadiness();
  const skip = (event: Event) => {
    event.preventDefault();
    main.current?.focus();
  };
  const current = (name: string) => (page === name ? { "aria-current": "page" as const } : {});
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to the content
      </a>
      <header class="bar">
        <a class="brand" href="#/" aria-label="Forebay, go to sources">
          <img src="ui/icon.svg" alt="" width="24" height="24" />
          <span>Forebay</span>
        </a>
        {onLogout && (
          <nav aria-label="Pages">
            <a href="#/" {...current("sources")}>
              Sources
            </a>
            <a href="#/playground" {...current("playground")}>
              Playground
            </a>
            <a href="v1/documentation/" target="_blank" rel="noopener">
              API<span class="visually-hidden"> documentation, in a new tab</span>
            </a>
          </nav>
        )}
        <div class="actions end">
          <ThemeSwitch />
          {onLogout && (
            <button type="button" class="small quiet" onClick={onLogout}>
              Log out
            </button>
          )}
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        {causes && (
          <div class="notice bad" role="alert">
            <p>
              <strong>This node is not ready.</strong> {causes}
            </p>
          </div>
        )}
        {children}
      </main>
      <Announcements />
    </>
  );
}

function NotFound() {
  return (
    <div class="empty">
      <h1 tabIndex={-1}>Page not found</h1>
      <p>
        <a href="#/">Back to all sources</a>
      </p>
    </div>
  );
}

function Page({ path }: { path: string[] }) {
  const [first, source, kind, sink, last] = path;
  if (first === undefined) return <Sources />;
  if (first === "playground" && path.length === 1) return <Playground />;
  if (first !== "sources" || source === undefined) return <NotFound />;
  if (path.length === 2) return <SourcePage id={source} />;
  if (kind !== "sinks" || sink === undefined) return <NotFound />;
  if (path.length === 4) return <SinkPage source={source} id={sink} />;
  if (path.length === 5 && last === "mapping") return <Playground source={source} sink={sink} />;
  return <NotFound />;
}

function App() {
  const [path, setPath] = useState(route);
  const [open, setOpen] = useState(session.token() !== null);
  const [why, setWhy] = useState("");
  const first = useRef(true);

  useEffect(() => {
    const onHash = () => setPath(route());
    addEventListener("hashchange", onHash);
    session.whenLost((reason) => {
      setWhy(reason);
      setOpen(false);
      forget();
    });
    return () => removeEventListener("hashchange", onHash);
  }, []);

  // After navigation, keyboard and screen reader continue at the heading.
  const key = path.join("/");
  useEffect(() => {
    if (first.current) {
      first.current = false;
      return;
    }
    scrollTo(0, 0);
    document.querySelector<HTMLElement>("h1")?.focus();
  }, [key, open]);

  const logout = () => {
    session.close();
    forget();
    setWhy("");
    setOpen(false);
  };
  if (!open) {
    return (
      <Layout page="">
        <Login why={why} onOpen={() => setOpen(true)} />
      </Layout>
    );
  }
  const page = path[0] === "playground" || path[4] === "mapping" ? "playground" : "sources";
  return (
    <Layout page={page} onLogout={logout}>
      <Page path={path} key={key} />
    </Layout>
  );
}

applyTheme();
const root = document.getElementById("app");
if (root) render(<App />, root);

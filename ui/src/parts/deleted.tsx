// Deleted sources or sinks, which an admin can undelete.
import { useState } from "preact/hooks";
import { asFailure, run, type Failure, type Page, type Sink, type Source } from "../api";
import { useFeed } from "../feed";
import { plural, time } from "../format";
import { Problem } from "./basics";
import { announce } from "./announce";

interface Props {
  kind: "source" | "sink";
  /** Path of the list of existing ones. */
  path: string;
  onRestored: () => void;
}

export function Deleted({ kind, path, onRestored }: Props) {
  const feed = useFeed<{ page: Page; sources?: Source[]; sinks?: Sink[] }>(`${path}/deleted?limit=100`, 15_000);
  const [error, setError] = useState<Failure>();
  const [busy, setBusy] = useState("");
  const items = [
    ...(feed.data?.sources ?? []).map((s) => ({ ...s, id: s.sourceId })),
    ...(feed.data?.sinks ?? []).map((s) => ({ ...s, id: s.sinkId })),
  ];
  const total = feed.data?.page.totalCount ?? 0;
  if (total === 0) return null;
  const restore = async (id: string, name: string) => {
    setError(undefined);
    setBusy(id);
    try {
      await run("PUT", `${path}/${encodeURIComponent(id)}/undelete`);
      announce(`${name} undeleted.`);
      onRestored();
    } catch (e) {
      setError(asFailure(e));
    }
    setBusy("");
    feed.refresh();
  };
  return (
    <details class="deleted">
      <summary>
        Deleted <span class="muted">{plural(total, kind)}</span>
      </summary>
      {error && <Problem error={error} />}
      <ul class="rows">
        {items.map(({ id, name, deleted }) => (
          <li key={id}>
            <span>
              {name} <span class="id">{id}</span> {deleted && <span class="muted">{time(deleted.at)}</span>}
            </span>
            <button type="button" class="small" disabled={busy !== ""} onClick={() => void restore(id, name)}>
              {busy === id ? "Working…" : "Undelete"}
              <span class="visually-hidden"> {name}</span>
            </button>
          </li>
        ))}
      </ul>
      {total > items.length && (
        <p class="muted">
          The first {items.length} of {total}.
        </p>
      )}
    </details>
  );
}

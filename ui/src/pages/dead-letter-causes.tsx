// Causes of the dead letters of a sink, and the filter that they set.
import { useState } from "preact/hooks";
import { now, type Cause } from "../api";
import { useFeed } from "../feed";
import { ago, count } from "../format";
import { Problem } from "../parts/basics";

/** Conditions on dead letters, as the API has them. */
export interface Filter {
  causeId?: string;
  contains?: string;
}

/** The conditions as parameters, each with a leading `&`. */
export const filterQuery = (filter: Filter) =>
  Object.entries(filter)
    .filter(([, value]) => value)
    .map(([name, value]) => `&${name}=${encodeURIComponent(String(value))}`)
    .join("");

interface Report {
  causes: Cause[];
  othersCount: number;
  moreAfterId?: string;
}

export function Causes({ path, filter, onFilter }: { path: string; filter: Filter; onFilter: (filter: Filter) => void }) {
  const feed = useFeed<Report>(`${path}/dead-letters/causes`, 15_000);
  const [text, setText] = useState(filter.contains ?? "");
  const causes = [...(feed.data?.causes ?? [])].sort((a, b) => b.count - a.count);
  const search = (e: SubmitEvent) => {
    e.preventDefault();
    onFilter({ ...filter, contains: text });
  };
  return (
    <div class="causes">
      {feed.error && <Problem error={feed.error} title="Can't count the causes." onRetry={feed.refresh} />}
      {causes.length > 1 && (
        <ul aria-label="Causes">
          {causes.map((cause) => {
            const isChosen = filter.causeId === cause.causeId;
            return (
              <li key={cause.causeId}>
                <button
                  type="button"
                  class="small"
                  aria-pressed={isChosen}
                  onClick={() => onFilter(isChosen ? { contains: filter.contains ?? "" } : { ...filter, causeId: cause.causeId })}
                >
                  <span class="figure">{count(cause.count)}</span> {cause.message} <span class="muted">last {ago(cause.lastReceivedAt, now())}</span>
                </button>
              </li>
            );
          })}
          {feed.data && feed.data.othersCount > 0 && <li class="muted">{count(feed.data.othersCount)} of further causes</li>}
          {feed.data?.moreAfterId && <li class="muted">Counts of the oldest 20,000 dead letters.</li>}
        </ul>
      )}
      <form class="actions" onSubmit={search}>
        <label>
          Contains <input type="search" value={text} maxLength={256} onInput={(e) => setText(e.currentTarget.value)} />
        </label>
        <button type="submit" class="small">
          Filter
        </button>
        {filterQuery(filter) !== "" && (
          <button
            type="button"
            class="small"
            onClick={() => {
              setText("");
              onFilter({});
            }}
          >
            Clear filter
          </button>
        )}
      </form>
    </div>
  );
}

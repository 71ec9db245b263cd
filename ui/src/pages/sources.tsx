// All sources: rates, records in flight, failures.
import { now, SOURCES, ORIGIN, type AggregatedSource, type Page } from "../api";
import { useFeed } from "../feed";
import { plural, rate, short, span } from "../format";
import { inFlight, isFailing, lag, sourceStatus } from "../health";
import { Badge, Code, Loading, Problem, Scroll, Tile } from "../parts/basics";
import { Spark } from "../parts/chart";
import { Deleted } from "../parts/deleted";
import { rates, recordCounts, sum, type Rates } from "../rates";
import { useTitle } from "../title";

interface Aggregation {
  page: Page;
  sources: AggregatedSource[];
}

export const rateKey = (source: string, sink: string) => `${source}/${sink}`;

/** Records the counts of all sinks of a source. */
export function recordSource(source: AggregatedSource): void {
  for (const sink of source.sinks) {
    const { total, levels } = sink.statistics;
    recordCounts(rateKey(source.sourceId, sink.sinkId), total.recordsCount, levels.target?.recordsCount ?? 0);
  }
}

/** The longest lag of the sinks of a source. */
function lagOf(source: AggregatedSource, present: number): number | undefined {
  const lags = source.sinks.map((s) => lag(s.statistics.levels, present)).filter((l) => l !== undefined);
  return lags.length > 0 ? Math.max(...lags) : undefined;
}

// A record goes to all sinks of its source: the source's rate is the highest rate of its sinks.
function rateOf(source: AggregatedSource): Rates {
  const all = source.sinks.map((s) => rates(rateKey(source.sourceId, s.sinkId)));
  return all.reduce((best, r) => (r.known && (!best.known || r.acceptedNow > best.acceptedNow) ? r : best), sum([]));
}

export function Sources() {
  useTitle("Sources");
  const feed = useFeed<Aggregation>("/v1/branches/default/aggregation/sources?limit=100", 2000, (data) => {
    data.sources.forEach(recordSource);
  });
  const sources = feed.data?.sources;
  return (
    <>
      <div class="page-head">
        <h1 tabIndex={-1}>Sources</h1>
      </div>
      {feed.error && <Problem error={feed.error} title="Can't refresh the sources." onRetry={feed.refresh} />}
      {!sources && !feed.error && <Loading what="sources" />}
      {sources && sources.length === 0 && <GettingStarted />}
      {sources && sources.length > 0 && (
        <>
          <Summary sources={sources} />
          <List sources={sources} total={feed.data?.page.totalCount ?? sources.length} />
        </>
      )}
      <Deleted kind="source" path={SOURCES} onRestored={feed.refresh} />
    </>
  );
}

function Summary({ sources }: { sources: AggregatedSource[] }) {
  const present = now();
  const incoming = sum(sources.map(rateOf));
  const sinks = sources.flatMap((s) => s.sinks.map((sink) => rates(rateKey(s.sourceId, sink.sinkId))));
  const outgoing = sum(sinks).importedNow;
  const waiting = sources.flatMap((s) => s.sinks).reduce((all, s) => all + inFlight(s.statistics.levels), 0);
  const lags = sources.map((s) => lagOf(s, present)).filter((l) => l !== undefined);
  const failing = sources.flatMap((s) => (s.disabled ? [] : s.sinks)).filter(isFailing);
  return (
    <dl class="tiles" aria-label="All sources together">
      <Tile name="Accepted" value={incoming.known ? rate(incoming.acceptedNow) : "–"} unit="records/s" note={plural(sources.length, "source")} />
      <Tile name="Imported" value={incoming.known ? rate(outgoing) : "–"} unit="rows/s" note={plural(sources.reduce((all, s) => all + s.sinksTotal, 0), "sink")} />
      <Tile name="In flight" value={short(waiting)} unit="records" note="on disk, not in a table yet" />
      <Tile name="Longest lag" value={lags.length > 0 ? span(Math.max(...lags)) : "none"} note="age of the oldest record in flight" />
      {failing.length > 0 ? (
        <Tile name="Failing" value={String(failing.length)} unit={failing.length === 1 ? "sink" : "sinks"} note="retrying, nothing is lost" tone="bad" />
      ) : (
        <Tile name="Failing" value="none" note="all sinks are healthy" />
      )}
    </dl>
  );
}

function List({ sources, total }: { sources: AggregatedSource[]; total: number }) {
  const present = now();
  return (
    <>
      {total > sources.length && (
        <p class="muted">
          The first {sources.length} of {total}.
        </p>
      )}
      <Scroll label="Sources">
        <table class="list cards">
          <thead>
            <tr>
              <th scope="col">Source</th>
              <th scope="col">State</th>
              <th scope="col" class="number wide">
                Records/s
              </th>
              <th scope="col" class="number">
                In flight
              </th>
              <th scope="col" class="number">
                Lag
              </th>
              <th scope="col" class="number">
                Dead letters
              </th>
              <th scope="col">Sinks</th>
            </tr>
          </thead>
          <tbody>
            {sources.map((source) => (
              <Row key={source.sourceId} source={source} present={present} />
            ))}
          </tbody>
        </table>
      </Scroll>
    </>
  );
}

function Row({ source, present }: { source: AggregatedSource; present: number }) {
  const incoming = rateOf(source);
  const late = lagOf(source, present);
  const waiting = source.sinks.reduce((all, s) => all + inFlight(s.statistics.levels), 0);
  const dead = source.sinks.reduce((all, s) => all + s.statistics.reconciliation.dead, 0);
  const to = `#/sources/${encodeURIComponent(source.sourceId)}`;
  return (
    <tr>
      <th scope="row">
        <a href={to}>{source.name}</a>
        <span class="id">{source.sourceId}</span>
      </th>
      <td data-name="State">
        <Badge {...sourceStatus(source, incoming.acceptedNow > 0)} />
      </td>
      <td class="number wide" data-name="Records/s">
        <span class="with-spark">
          <Spark rates={incoming} />
          <span class="figure">{incoming.known ? rate(incoming.acceptedNow) : "–"}</span>
        </span>
      </td>
      <td class="number" data-name="In flight">
        {short(waiting)}
      </td>
      <td class="number" data-name="Lag">
        {late === undefined ? "–" : span(late)}
      </td>
      <td class="number" data-name="Dead letters">
        {dead === 0 ? "–" : <strong class="some">{short(dead)}</strong>}
      </td>
      <td data-name="Sinks">
        {source.sinksTotal === 0 && <span class="muted">none</span>}
        <ul class="inline">
          {source.sinks.slice(0, 4).map((s) => (
            <li key={s.sinkId}>
              <a href={`${to}/sinks/${encodeURIComponent(s.sinkId)}`}>{s.name}</a>
              {isFailing(s) && (
                <span class="badge bad">
                  <span class="visually-hidden">failing</span>
                </span>
              )}
            </li>
          ))}
          {source.sinksTotal > 4 && <li class="muted">and {source.sinksTotal - 4} more</li>}
        </ul>
      </td>
    </tr>
  );
}

/** Commands that create the first source, ready to paste. */
function GettingStarted() {
  const header = '-H "X-StorageApi-Token: $TOKEN" -H "Content-Type: application/json"';
  const source = `TOKEN=$(cat data/token)   # or the token that you logged in with

curl ${header} \\
  -d '{"type": "http", "name": "My events"}' \\
  ${ORIGIN}${SOURCES}`;
  const sink = `curl ${header} \\
  -d '{"type": "table", "name": "Events", "table": {
        "type": "keboola", "tableId": "in.demo.events",
        "mapping": {"columns": [
          {"type": "uuid", "name": "id"},
          {"type": "datetime", "name": "at"},
          {"type": "path", "name": "user", "path": "user.id", "rawString": true}
        ]}}}' \\
  ${ORIGIN}${SOURCES}/my-events/sinks`;
  const record = `URL=$(curl -s -H "X-StorageApi-Token: $TOKEN" \\
  ${ORIGIN}${SOURCES}/my-events |
  grep -o '"http[^"]*/stream/[^"]*"' | tr -d '"')

curl -H "Content-Type: application/json" -d '{"user": {"id": "ada"}}' "$URL"`;
  return (
    <section class="first" aria-labelledby="first">
      <h2 id="first">Create the first source</h2>
      <p>
        A <em>source</em> is a URL that accepts records. Its <em>sinks</em> load each record into a table as one row.
        Paste these commands into a terminal; the source then appears on this page.
      </p>
      <ol class="steps">
        <li>
          <h3>Create a source</h3>
          <Code label="command that creates a source" text={source} />
        </li>
        <li>
          <h3>Create a sink</h3>
          <p class="muted">
            You can test columns in the <a href="#/playground">playground</a> first.
          </p>
          <Code label="command that creates a sink" text={sink} />
        </li>
        <li>
          <h3>Send a record</h3>
          <Code label="command that sends a record" text={record} />
        </li>
      </ol>
    </section>
  );
}

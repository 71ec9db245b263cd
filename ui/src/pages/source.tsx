// One source: where to send records, and how its sinks are.
import { useState } from "preact/hooks";
import { now, sourcePath, type AggregatedSink, type AggregatedSource } from "../api";
import { useFeed } from "../feed";
import { ago, count, plural, rate, short, span } from "../format";
import { advice, causes, inFlight, lag, sinkStatus, sourceStatus } from "../health";
import { Badge, Code, Copy, Loading, Problem, Section } from "../parts/basics";
import { Spark } from "../parts/chart";
import { Deleted } from "../parts/deleted";
import { DisabledNotice, Switch } from "../parts/switch";
import { rates } from "../rates";
import { useTitle } from "../title";
import { noteSource, rateKey } from "./sources";

/** Path of the answer that the pages of a source and of its sinks are made from. */
export const aggregated = (id: string) => `/v1/branches/default/aggregation/sources/${encodeURIComponent(id)}`;

/** Sinks on a page. */
const PAGE = 100;

/** The same with one sink only. */
export function aggregatedSink(source: string, sink: string) {
  // The list begins behind an id: behind the last one that is before this.
  const last = sink.charCodeAt(sink.length - 1);
  const before = `${sink.slice(0, -1)}${String.fromCharCode(last - 1)}\uffff`;
  return `${aggregated(source)}?limit=1&afterId=${encodeURIComponent(before)}`;
}

export function SourcePage({ id }: { id: string }) {
  // Ids behind which pages of sinks begin; the last one is shown.
  const [pages, setPages] = useState<string[]>([""]);
  const after = encodeURIComponent(pages.at(-1) ?? "");
  const feed = useFeed<AggregatedSource>(`${aggregated(id)}?limit=${PAGE}&afterId=${after}`, 2000, noteSource);
  const source = feed.data;
  useTitle(source?.name ?? id);
  const accepting = source?.sinks.some((s) => rates(rateKey(id, s.sinkId)).acceptedNow > 0) ?? false;
  return (
    <>
      <nav aria-label="You are here" class="crumbs">
        <ol>
          <li>
            <a href="#/">Sources</a>
          </li>
          <li aria-current="page">{source?.name ?? id}</li>
        </ol>
      </nav>
      <div class="page-head">
        <div>
          <h1 tabIndex={-1}>{source?.name ?? id}</h1>
          {source && <Badge {...sourceStatus(source, accepting)} />}
        </div>
        {source && (
          <Switch kind="source" name={source.name} path={sourcePath(id)} disabled={source.disabled} onDone={feed.refresh} />
        )}
      </div>
      {source?.description && <p class="lead">{source.description}</p>}
      {feed.error && <Problem error={feed.error} title="The source can't be shown as it is now." onRetry={feed.refresh} />}
      {!source && !feed.error && <Loading what="the source" />}
      {source?.disabled && <DisabledNotice kind="source" disabled={source.disabled} />}
      {source && <Sinks source={source} />}
      {source && source.sinksTotal > PAGE && (
        <p class="pager actions">
          <button type="button" disabled={pages.length === 1} onClick={() => setPages(pages.slice(0, -1))}>
            Previous {count(PAGE)} sinks
          </button>
          <button
            type="button"
            disabled={source.sinks.length < PAGE}
            onClick={() => setPages([...pages, source.sinks.at(-1)?.sinkId ?? ""])}
          >
            Next {count(PAGE)} sinks
          </button>
        </p>
      )}
      {source && <Deleted kind="sink" path={`${sourcePath(id)}/sinks`} onRestored={feed.refresh} />}
      {source?.http && <Send url={source.http.url} taught={source.sinks.some((s) => s.statistics.total.recordsCount > 0)} />}
    </>
  );
}

function Sinks({ source }: { source: AggregatedSource }) {
  return (
    <Section id="sinks" title="Sinks" note={plural(source.sinksTotal, "sink")}>
      {source.sinksTotal === 0 && (
        <p class="empty">
          This source has no sink: it refuses records, since they would go nowhere. Try columns in the{" "}
          <a href="#/playground">playground</a>, then make a sink with <code>POST …/sinks</code> or{" "}
          <code>forebay apply</code>.
        </p>
      )}
      <ul class="sinks">
        {source.sinks.map((sink) => (
          <SinkCard key={sink.sinkId} source={source} sink={sink} />
        ))}
      </ul>
    </Section>
  );
}

function SinkCard({ source, sink }: { source: AggregatedSource; sink: AggregatedSink }) {
  const known = rates(rateKey(source.sourceId, sink.sinkId));
  const present = now();
  const late = lag(sink.statistics.levels, present);
  const failures = causes(sink);
  const last = sink.statistics.total.lastRecordAt;
  return (
    <li class="card">
      <div class="card-head">
        <h3>
          <a href={`#/sources/${encodeURIComponent(source.sourceId)}/sinks/${encodeURIComponent(sink.sinkId)}`}>{sink.name}</a>
        </h3>
        <Badge {...sinkStatus(sink, source, known.acceptedNow > 0)} />
        <span class="muted target">{sink.table?.tableId ?? sink.topic?.topic ?? sink.type}</span>
      </div>
      <dl class="figures">
        <div class="wide">
          <dt>Accepted</dt>
          <dd class="with-spark">
            <span class="figure">{known.known ? rate(known.acceptedNow) : "–"}</span>
            <span class="unit">/s</span>
            <Spark rates={known} />
          </dd>
        </div>
        <div>
          <dt>{sink.topic ? "Delivered" : "Imported"}</dt>
          <dd>
            <span class="figure">{known.known ? rate(known.importedNow) : "–"}</span>
            <span class="unit">/s</span>
          </dd>
        </div>
        <div>
          <dt>On their way</dt>
          <dd>{short(inFlight(sink.statistics.levels))}</dd>
        </div>
        <div>
          <dt>Lag</dt>
          <dd>{late === undefined ? "–" : span(late)}</dd>
        </div>
        {sink.table && (
          <div>
            <dt>Last record</dt>
            <dd>{last ? ago(last, present) : "never"}</dd>
          </div>
        )}
      </dl>
      {failures.map((cause) => (
        <div class="cause" key={cause.reason}>
          <p>
            <strong>{cause.what} fails:</strong> {cause.reason}
          </p>
          <p class="muted">{advice(cause.reason)}</p>
        </div>
      ))}
    </li>
  );
}

/** The address, whose last part is a secret: hidden until it is asked for. */
function Send({ url, taught }: { url: string; taught: boolean }) {
  const [shown, setShown] = useState(false);
  const hidden = url.replace(/[^/]*$/, "•".repeat(12));
  const text = `curl -H 'Content-Type: application/json' -d '{"user": {"id": "ada"}}' \\\n  '${url}'`;
  return (
    <Section id="send" title="Send records" note={taught ? undefined : "none has come yet"}>
      <p class="address">
        <code>{shown ? url : hidden}</code>
        <span class="actions">
          <button type="button" class="small" aria-pressed={shown} onClick={() => setShown(!shown)}>
            {shown ? "Hide" : "Show"}
            <span class="visually-hidden"> the secret of the address</span>
          </button>
          <Copy text={url} label="the address" />
        </span>
      </p>
      <p class="muted">Whoever knows the address may send records. An answer of 200 means: on disk.</p>
      {shown && <Code label="command that sends a record" text={text} />}
    </Section>
  );
}

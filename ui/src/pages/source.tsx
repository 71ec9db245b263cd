// One source: its URL, and the status of its sinks.
import { useState } from "preact/hooks";
import { now, sourcePath, type AggregatedSink, type AggregatedSource, type Verify } from "../api";
import { useFeed } from "../feed";
import { ago, count, plural, rate, short, span } from "../format";
import { advice, causes, inFlight, lag, sinkStatus, sourceStatus } from "../health";
import { Badge, Code, Copy, Loading, Problem, Section } from "../parts/basics";
import { Spark } from "../parts/chart";
import { Deleted } from "../parts/deleted";
import { DisabledNotice, Switch } from "../parts/switch";
import { rates } from "../rates";
import { useTitle } from "../title";
import { recordSource, rateKey } from "./sources";

/** Path of the data of a source's page and its sinks' pages. */
export const aggregated = (id: string) => `/v1/branches/default/aggregation/sources/${encodeURIComponent(id)}`;

/** Sinks per page. */
const PAGE = 100;

/** Path of a source with one sink only. */
export function aggregatedSink(source: string, sink: string) {
  // The list starts after an id: here the greatest id before this one.
  const last = sink.charCodeAt(sink.length - 1);
  const before = `${sink.slice(0, -1)}${String.fromCharCode(last - 1)}\uffff`;
  return `${aggregated(source)}?limit=1&afterId=${encodeURIComponent(before)}`;
}

export function SourcePage({ id }: { id: string }) {
  // Ids after which pages of sinks start; the last one is the current page.
  const [pages, setPages] = useState<string[]>([""]);
  const after = encodeURIComponent(pages.at(-1) ?? "");
  const feed = useFeed<AggregatedSource>(`${aggregated(id)}?limit=${PAGE}&afterId=${after}`, 2000, recordSource);
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
      {feed.error && <Problem error={feed.error} title="Can't refresh the source." onRetry={feed.refresh} />}
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
      {source?.verify && <Signature verify={source.verify} />}
      {source?.http && (
        <Send
          url={source.http.url}
          signed={source.verify !== undefined}
          received={source.sinks.some((s) => s.statistics.total.recordsCount > 0)}
        />
      )}
    </>
  );
}

function Sinks({ source }: { source: AggregatedSource }) {
  return (
    <Section id="sinks" title="Sinks" note={plural(source.sinksTotal, "sink")}>
      {source.sinksTotal === 0 && (
        <p class="empty">
          This source has no sink, so it rejects records. Test columns in the{" "}
          <a href="#/playground">playground</a>, then create a sink with <code>POST …/sinks</code> or{" "}
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
          <dt>In flight</dt>
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
            <strong>{cause.what} failed:</strong> {cause.reason}
          </p>
          <p class="muted">{advice(cause.reason)}</p>
        </div>
      ))}
    </li>
  );
}

/** The signature that requests must have; its secrets are known to nobody here. */
function Signature({ verify }: { verify: Verify }) {
  const prints = verify.secretFingerprints;
  return (
    <Section id="signature" title="Signature" note={verify.type}>
      <p>
        Requests need a signature of type <code>{verify.type}</code>
        {verify.header && (
          <>
            {" "}
            in the header <code>{verify.header}</code>
          </>
        )}
        {verify.tolerance && `, not older than ${verify.tolerance}`}; others are rejected.
      </p>
      {prints && (
        <p class="muted">
          Fingerprints of the {plural(prints.length, "secret")}: <code>{prints.join(", ")}</code>
        </p>
      )}
    </Section>
  );
}

/** The URL; its last part is a secret, hidden by default. */
function Send({ url, signed, received }: { url: string; signed: boolean; received: boolean }) {
  const [shown, setShown] = useState(false);
  const hidden = url.replace(/[^/]*$/, "•".repeat(12));
  const text = `curl -H 'Content-Type: application/json' -d '{"user": {"id": "ada"}}' \\\n  '${url}'`;
  return (
    <Section id="send" title="Send records" note={received ? undefined : "none received yet"}>
      <p class="address">
        <code>{shown ? url : hidden}</code>
        <span class="actions">
          <button type="button" class="small" aria-pressed={shown} onClick={() => setShown(!shown)}>
            {shown ? "Hide" : "Show"}
            <span class="visually-hidden"> the secret of the URL</span>
          </button>
          <Copy text={url} label="the URL" />
        </span>
      </p>
      <p class="muted">
        {signed ? "Requests to this URL must be signed." : "Anyone with this URL can send records."} A 200 response
        means that the record is on disk.
      </p>
      {shown && !signed && <Code label="command that sends a record" text={text} />}
    </Section>
  );
}

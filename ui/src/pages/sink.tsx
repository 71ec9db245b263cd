// One sink: rates, reconciliation, files and slices, failures, dead letters.
import { now, sinkPath, type AggregatedSink, type AggregatedSource, type ReconciliationCounts, type File, type Slice } from "../api";
import { useFeed } from "../feed";
import { ago, count, plural, rate, short, size, span, time } from "../format";
import { advice, inFlight, lag, sinkStatus, deliveryFailures } from "../health";
import { Badge, Loading, Pre, Problem, Scroll, Section, Tile } from "../parts/basics";
import { RateChart } from "../parts/chart";
import { RetryButton } from "../parts/retry";
import { DisabledNotice, Switch } from "../parts/switch";
import { rates, type Rates } from "../rates";
import { useTitle } from "../title";
import { TYPES } from "./columns";
import { Delivery } from "./delivery";
import { DeadLetters } from "./dead-letters";
import { aggregatedSink } from "./source";
import { recordSource, rateKey } from "./sources";

/** Maximum imported files shown. */
const IMPORTED_SHOWN = 5;

export function SinkPage({ source: sourceId, id }: { source: string; id: string }) {
  const path = sinkPath(sourceId, id);
  const feed = useFeed<AggregatedSource>(aggregatedSink(sourceId, id), 2000, recordSource);
  const source = feed.data;
  const sink = source?.sinks.find((s) => s.sinkId === id);
  const slices = useFeed<{ slices: Slice[] }>(sink?.table ? `${path}/statistics/slices` : undefined, 2000);
  useTitle(sink?.name ?? id);
  const known = rates(rateKey(sourceId, id));
  const to = `#/sources/${encodeURIComponent(sourceId)}`;
  const error = feed.error ?? slices.error;
  return (
    <>
      <nav aria-label="You are here" class="crumbs">
        <ol>
          <li>
            <a href="#/">Sources</a>
          </li>
          <li>
            <a href={to}>{source?.name ?? sourceId}</a>
          </li>
          <li aria-current="page">{sink?.name ?? id}</li>
        </ol>
      </nav>
      <div class="page-head">
        <div>
          <h1 tabIndex={-1}>{sink?.name ?? id}</h1>
          {sink && source && <Badge {...sinkStatus(sink, source, known.acceptedNow > 0)} />}
        </div>
        {sink && <Switch kind="sink" name={sink.name} path={path} disabled={sink.disabled} onDone={feed.refresh} />}
      </div>
      {sink && <Target sink={sink} />}
      {error && <Problem error={error} title="Can't refresh the sink." onRetry={feed.refresh} />}
      {!source && !error && <Loading what="the sink" />}
      {source && !sink && (
        <p class="empty">
          Sink not found; it may have been deleted. <a href={to}>Back to the source</a>
        </p>
      )}
      {sink?.disabled && <DisabledNotice kind="sink" disabled={sink.disabled} />}
      {sink?.paused && (
        <div class="notice warn">
          <p>
            <strong>Delivery is paused</strong> since {time(sink.paused.at)}
            {sink.paused.reason && <>: {sink.paused.reason}</>}. Records are accepted and wait on disk.
          </p>
        </div>
      )}
      {sink && (
        <>
          <Failures files={sink.statistics.files} slices={slices.data?.slices ?? []} path={path} onRetry={feed.refresh} />
          <Tiles sink={sink} known={known} />
          <RateChart rates={known} />
          <Reconciliation reconciliation={sink.statistics.reconciliation} parts={sink.topic ? TOPIC_PARTS : PARTS} />
          {sink.topic && <Delivery sink={sink} path={path} />}
          {sink.table && <Files files={sink.statistics.files} slices={slices.data?.slices ?? []} />}
          <DeadLetters path={path} dead={sink.statistics.reconciliation.dead} topic={!sink.table} source={sourceId} sink={id} onChange={feed.refresh} />
          <Definition sink={sink} to={`${to}/sinks/${encodeURIComponent(id)}/mapping`} />
        </>
      )}
    </>
  );
}

const backends: Record<string, string> = { keboola: "the server's default backend", sqlite: "SQLite", postgres: "PostgreSQL" };

function Target({ sink }: { sink: AggregatedSink }) {
  if (!sink.table) {
    return (
      <p class="lead muted">
        Into {sink.topic ? <>the topic <code>{sink.topic.topic}</code> of the provider <code>{sink.topic.provider}</code> ({sink.type})</> : sink.type}.
      </p>
    );
  }
  return (
    <p class="lead muted">
      Into the table <code>{sink.table.tableId}</code> of {backends[sink.table.type] ?? sink.table.type}.
    </p>
  );
}

function Failures({ files, slices, path, onRetry }: { files: File[]; slices: Slice[]; path: string; onRetry: () => void }) {
  const present = now();
  const causes = deliveryFailures(files, slices);
  if (causes.length === 0) return null;
  return (
    <section class="notice bad" aria-labelledby="failures">
      <h2 id="failures">Delivery is failing and retried</h2>
      {causes.map((cause) => (
        <div key={cause.what + cause.reason} class="cause">
          <p>
            <strong>{cause.what}:</strong> {cause.reason}
          </p>
          <p class="muted">
            {advice(cause.reason)} {plural(cause.attempt, "attempt")} so far
            {cause.after && <>, {nextTry(cause.after, present)}</>}.
          </p>
        </div>
      ))}
      <RetryButton path={path} onDone={onRetry} />
    </section>
  );
}

function nextTry(after: string, present: number): string {
  const wait = Date.parse(after) - present;
  return wait <= 0 ? "next attempt due" : `next attempt in ${span(wait)}`;
}

function Tiles({ sink, known }: { sink: AggregatedSink; known: Rates }) {
  const { levels, total, reconciliation } = sink.statistics;
  const present = now();
  const late = lag(levels, present);
  const { dead } = reconciliation;
  return (
    <dl class="tiles" aria-label="Current figures">
      <Tile
        name="Accepted"
        value={known.known ? rate(known.acceptedNow) : "–"}
        unit="records/s"
        note={total.lastRecordAt ? `last record ${ago(total.lastRecordAt, present)}` : reconciliation.accepted > 0 ? `${short(reconciliation.accepted)} in total` : "none yet"}
      />
      <Tile name={sink.topic ? "Delivered" : "Imported"} value={known.known ? rate(known.importedNow) : "–"} unit={sink.topic ? "messages/s" : "rows/s"} note={`${short(reconciliation.imported)} in total`} />
      <Tile name="In flight" value={short(inFlight(levels))} unit="records" note={waiting(sink)} />
      <Tile name="Lag" value={late === undefined ? "none" : span(late)} note="age of the oldest record in flight" />
      <Tile name="Dead letters" value={short(dead)} note={dead > 0 ? `rejected by the ${sink.table ? "mapping" : "provider"}` : "none"} {...(dead > 0 ? { tone: "warn" as const } : {})} />
    </dl>
  );
}

function waiting(sink: AggregatedSink): string {
  const { local, staging } = sink.statistics.levels;
  const bytes = (local?.uncompressedSize ?? 0) + (staging?.uncompressedSize ?? 0);
  return bytes > 0 ? `${size(bytes)}, safe on disk` : "all delivered";
}

const PARTS: { key: Exclude<keyof ReconciliationCounts, "accepted" | "holds">; name: string; says: string }[] = [
  { key: "imported", name: "Imported", says: "in the table" },
  { key: "inFlight", name: "In flight", says: "on disk or in staging" },
  { key: "dead", name: "Dead letters", says: "rejected and stored" },
  { key: "expired", name: "Dropped", says: "discarded or expired" },
  { key: "lost", name: "Lost", says: "to disk corruption" },
];

const TOPIC_PARTS: typeof PARTS = PARTS.map((part) => {
  if (part.key === "imported") return { ...part, name: "Delivered", says: "confirmed by the provider" };
  return part.key === "inFlight" ? { ...part, says: "on disk or with the provider" } : part;
});

/** Reconciliation of the accepted records. */
function Reconciliation({ reconciliation, parts }: { reconciliation: ReconciliationCounts; parts: typeof PARTS }) {
  const total = Math.max(1, reconciliation.accepted);
  let at = 0;
  return (
    <Section id="reconciliation" title="Reconciliation" note={`${count(reconciliation.accepted)} accepted`}>
      <svg class="reconciliation" viewBox="0 0 1000 12" preserveAspectRatio="none" aria-hidden="true" focusable="false">
        <rect class="nothing" width="1000" height="12" />
        {parts.map(({ key }) => {
          const width = (reconciliation[key] / total) * 1000;
          const part = width > 0 && <rect key={key} class={key} x={at} width={Math.max(width, 3)} height="12" />;
          at += width;
          return part;
        })}
      </svg>
      <dl class="legend">
        {parts.map(({ key, name, says }) => (
          <div key={key}>
            <dt class={`key ${key}`}>{name}</dt>
            <dd>
              <span class="figure">{count(reconciliation[key])}</span> <span class="muted">{says}</span>
            </dd>
          </div>
        ))}
      </dl>
      {!reconciliation.holds && (
        <p class="field-error">
          The counts do not add up to the accepted records. Counts read while records move can differ for a moment; if
          this persists, it is a bug: please report it.
        </p>
      )}
    </Section>
  );
}

const names: Record<string, string> = {
  writing: "Writing",
  closing: "Closing",
  uploading: "Uploading",
  uploaded: "Uploaded",
  importing: "Importing",
  imported: "Imported",
};

function State({ item }: { item: { state: string; retryReason?: string } }) {
  const tone = item.retryReason && item.state !== "imported" ? "bad" : item.state === "imported" ? "idle" : "ok";
  return <Badge tone={tone} text={names[item.state] ?? item.state} />;
}

/** A file is the unit of import; a slice is its part on one volume. */
function Files({ files, slices }: { files: File[]; slices: Slice[] }) {
  const present = now();
  const open = files.filter((f) => f.state !== "imported");
  const done = files.filter((f) => f.state === "imported" && f.statistics.total);
  const shown = [...open, ...done.slice(0, IMPORTED_SHOWN)];
  return (
    <Section
      id="files"
      title="Files and slices"
      note={`${plural(open.length, "file")} open, ${plural(done.length, "file")} recently imported`}
    >
      <Scroll label="Files and slices">
        <table class="list files cards">
          <thead>
            <tr>
              <th scope="col">File</th>
              <th scope="col">State</th>
              <th scope="col" class="number">
                Age
              </th>
              <th scope="col" class="number">
                Records
              </th>
              <th scope="col" class="number">
                Size
              </th>
              <th scope="col">Cause and next attempt</th>
            </tr>
          </thead>
          <tbody>
            {shown.length === 0 && (
              <tr>
                <td colSpan={6} class="muted">
                  No file is open: the sink is disabled.
                </td>
              </tr>
            )}
            {shown.map((file) => (
              <FileRows key={file.openedAt} file={file} slices={slices.filter((s) => s.fileOpenedAt === file.openedAt)} present={present} />
            ))}
          </tbody>
        </table>
      </Scroll>
    </Section>
  );
}

function Cause({ item, present }: { item: { retryReason?: string; retryAttempt?: number; retryAfter?: string }; present: number }) {
  if (!item.retryReason) return <td class="text nothing muted">–</td>;
  return (
    <td class="text" data-name="Cause">
      <span>
        {item.retryReason}{" "}
        <span class="muted">
          ({plural(item.retryAttempt ?? 1, "attempt")}
          {item.retryAfter && <>, {nextTry(item.retryAfter, present)}</>})
        </span>
      </span>
    </td>
  );
}

/** Number of uploaded slices from which they are folded into one row. */
const FOLDED_FROM = 4;

function FileRows({ file, slices, present }: { file: File; slices: Slice[]; present: number }) {
  const total = file.statistics.total;
  const uploaded = slices.filter((s) => s.state === "uploaded");
  const folded = uploaded.length >= FOLDED_FROM;
  const shown = folded ? slices.filter((s) => s.state !== "uploaded") : slices;
  return (
    <>
      <tr>
        <th scope="row">
          <time dateTime={file.openedAt}>{time(file.openedAt)}</time>
        </th>
        <td data-name="State">
          <State item={file} />
        </td>
        <td class="number" data-name="Age">
          {span(present - Date.parse(file.openedAt))}
        </td>
        <td class="number" data-name="Records">
          {count(total?.recordsCount ?? 0)}
        </td>
        <td class="number" data-name="Size">
          {size(total?.uncompressedSize ?? 0)}
        </td>
        <Cause item={file.state === "imported" ? {} : file} present={present} />
      </tr>
      {folded && <SliceRow name={plural(uploaded.length, "slice")} slices={uploaded} present={present} />}
      {shown.map((slice) => (
        <SliceRow key={slice.volumeId + slice.openedAt} name="slice on volume" slices={[slice]} present={present} />
      ))}
    </>
  );
}

/** One slice, or several in the same state. */
function SliceRow({ name, slices, present }: { name: string; slices: Slice[]; present: number }) {
  const [first] = slices;
  if (!first) return null;
  const sum = (field: "recordsCount" | "uncompressedSize") => slices.reduce((all, s) => all + s.statistics[field], 0);
  const oldest = Math.min(...slices.map((s) => Date.parse(s.openedAt)));
  return (
    <tr class="slice">
      <th scope="row">
        <span class="muted">{name}</span> {slices.length === 1 && <code>{first.volumeId.slice(0, 8)}</code>}
      </th>
      <td data-name="State">
        <State item={first} />
      </td>
      <td class="number" data-name="Age">
        {span(present - oldest)}
      </td>
      <td class="number" data-name="Records">
        {count(sum("recordsCount"))}
      </td>
      <td class="number" data-name="Size">
        {size(sum("uncompressedSize"))}
      </td>
      <Cause item={first} present={present} />
    </tr>
  );
}

/** Column types without user input. */
const PLAIN = new Set(["uuid", "datetime", "ip", "body", "headers"]);

/** The mapping of a sink. */
function Definition({ sink, to }: { sink: AggregatedSink; to: string }) {
  const columns = sink.table?.mapping.columns;
  return (
    <Section
      id="definition"
      title={columns ? "Columns" : "Definition"}
      note={`version ${sink.version.number}, ${time(sink.version.at)}`}
      actions={
        columns && (
          <a class="button" href={to}>
            Edit in the playground
          </a>
        )
      }
    >
      {columns ? (
        <Scroll label="Columns">
          <table class="list columns">
            <thead>
              <tr>
                <th scope="col">Column</th>
                <th scope="col">Type</th>
                <th scope="col">Source</th>
              </tr>
            </thead>
            <tbody>
              {columns.map((c) => (
                <tr key={c.name}>
                  <th scope="row">
                    {c.name}
                    {c.primaryKey && <span class="tag">primary key</span>}
                  </th>
                  <td>
                    {c.type}
                    {c.dataType && <span class="tag">{c.dataType}</span>}
                  </td>
                  <td class="text">
                    {PLAIN.has(c.type) && <span class="muted">{TYPES.find((t) => t.type === c.type)?.says}</span>}
                    {c.type === "path" && <code>{c.path || "(whole body)"}</code>}
                    {c.template && <code>{c.template.content}</code>}
                    {c.value !== undefined && <code>{c.value}</code>}
                    {c.defaultValue !== undefined && (
                      <span class="muted">
                        {" "}
                        default <code>{c.defaultValue || "(empty)"}</code>
                      </span>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      ) : (
        <Pre label="the definition" text={JSON.stringify(Object.fromEntries(Object.entries(sink).filter(([k]) => !HIDDEN.has(k))), null, 2)} />
      )}
    </Section>
  );
}

/** Fields shown elsewhere on the page, or not at all. */
const HIDDEN = new Set(["statistics", "projectId", "branchId", "version", "created", "disabled", "deleted"]);

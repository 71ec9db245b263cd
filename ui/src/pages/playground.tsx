// The playground: edit columns, test them on a sample record, and show the row. Nothing is stored
// until the columns are saved to a sink.
import { useEffect, useMemo, useState } from "preact/hooks";
import { asFailure, call, Failure, run, sinkPath, sourcePath, type Column, type Sink, type Source, type MappingTest } from "../api";
import { useFeed } from "../feed";
import { Code, Confirm, Loading, Problem } from "../parts/basics";
import { announce } from "../parts/announce";
import { useTitle } from "../title";
import { clean, Columns, draft, type Draft } from "./columns";
import { parseHeaders, takeSample, type Header } from "./sample";

const EXAMPLE: Column[] = [
  { type: "uuid", name: "id" },
  { type: "datetime", name: "at" },
  { type: "path", name: "user", path: "user.id", rawString: true },
  { type: "template", name: "total", template: { language: "jsonnet", content: 'Body("price") * Body("count")' }, rawString: false },
];

export function Playground({ source, sink }: { source?: string; sink?: string }) {
  const bound = source !== undefined && sink !== undefined;
  const path = bound ? sinkPath(source, sink) : undefined;
  // Refreshed once an hour: changes of other users must not replace the edited columns.
  const feed = useFeed<Sink>(path, 3_600_000);
  const parent = useFeed<Source>(bound ? sourcePath(source) : undefined, 3_600_000);
  useTitle(bound ? `Columns of ${feed.data?.name ?? sink}` : "Playground");
  const to = bound ? `#/sources/${encodeURIComponent(source)}` : "";
  return (
    <>
      {bound && (
        <nav aria-label="You are here" class="crumbs">
          <ol>
            <li>
              <a href="#/">Sources</a>
            </li>
            <li>
              <a href={to}>{parent.data?.name ?? source}</a>
            </li>
            <li>
              <a href={`${to}/sinks/${encodeURIComponent(sink)}`}>{feed.data?.name ?? sink}</a>
            </li>
            <li aria-current="page">Columns</li>
          </ol>
        </nav>
      )}
      <div class="page-head">
        <h1 tabIndex={-1}>{bound ? `Columns of ${feed.data?.name ?? sink}` : "Playground"}</h1>
      </div>
      <p class="lead muted">
        Edit the columns and test them on a sample record. Nothing is stored
        {bound ? " until you save." : "."}
      </p>
      {feed.error && !feed.data && <Problem error={feed.error} title="Can't load the sink." onRetry={feed.refresh} />}
      {bound && !feed.data && !feed.error && <Loading what="the columns" />}
      {bound && feed.data && !feed.data.table && <p class="empty">This sink has no columns: its type is {feed.data.type}.</p>}
      {!bound && <Editor saved={EXAMPLE} />}
      {bound && feed.data?.table && (
        <Editor
          key={feed.data.version.number}
          saved={feed.data.table.mapping.columns}
          sink={feed.data}
          path={path ?? ""}
          testPath={`${sourcePath(source)}/test`}
          onSaved={feed.refresh}
        />
      )}
    </>
  );
}

interface EditorProps {
  saved: Column[];
  sink?: Sink;
  path?: string;
  testPath?: string;
  onSaved?: () => void;
}

interface Result {
  row: { name: string; value: string }[];
  violations: { column?: number; message: string }[];
}

const text = (columns: Column[]) => JSON.stringify(columns, null, 2);

function Editor({ saved, sink, path, testPath, onSaved }: EditorProps) {
  const [columns, setColumns] = useState<Draft[]>(() => saved.map(draft));
  const [sample, setSample] = useState(takeSample);
  const [headersWrong, setHeadersWrong] = useState("");
  const [result, setResult] = useState<Result>();
  const [stale, setStale] = useState(false);
  const [error, setError] = useState<Failure>();
  const [busy, setBusy] = useState(false);
  const definition = useMemo(() => text(columns.map(clean)), [columns]);
  const changed = useMemo(() => definition !== text(saved.map(draft).map(clean)), [definition, saved]);
  useEffect(() => setStale(true), [definition, sample]);

  const test = async () => {
    const parsed = parseHeaders(sample.headers);
    if ("wrong" in parsed) {
      setHeadersWrong(`“${parsed.wrong}” is not a header: expected Name: value.`);
      return;
    }
    setHeadersWrong("");
    setBusy(true);
    setError(undefined);
    try {
      const found = await testMapping(columns.map(clean), { body: sample.body, headers: parsed.headers }, changed ? undefined : testPath, sink);
      setResult(found);
      setStale(false);
      const first = found.violations[0];
      // Shown next to its column; announced to screen readers.
      announce(first ? `Record rejected: ${first.message}` : `Row with ${found.row.length} columns.`, true);
    } catch (e) {
      setError(asFailure(e));
      setResult(undefined);
    }
    setBusy(false);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      void test();
    }
  };
  const violations = new Map<number, string>();
  for (const { column, message } of result?.violations ?? []) {
    if (column !== undefined) violations.set(column, [violations.get(column), message].filter(Boolean).join(" "));
  }
  return (
    <div class="playground" onKeyDown={onKeyDown}>
      <section aria-labelledby="columns">
        <h2 id="columns">Columns</h2>
        <Columns
          columns={columns}
          violations={violations}
          onChange={(next) => {
            // Problems refer to columns by index: clear them when the order changes.
            if (next.length !== columns.length || next.some((c, i) => c.key !== columns[i]?.key)) {
              setResult((r) => r && { ...r, violations: r.violations.filter((p) => p.column === undefined) });
            }
            setColumns(next);
          }}
        />
      </section>
      <div class="side">
        <section aria-labelledby="record">
          <h2 id="record">Sample record</h2>
          <div class="field">
            <label for="sample-body">Body</label>
            <textarea
              id="sample-body"
              class="mono"
              rows={7}
              spellcheck={false}
              value={sample.body}
              onInput={(e) => setSample({ ...sample, body: e.currentTarget.value })}
            />
          </div>
          <div class="field">
            <label for="sample-headers">Headers, one per line</label>
            <textarea
              id="sample-headers"
              class="mono"
              rows={2}
              spellcheck={false}
              value={sample.headers}
              aria-invalid={headersWrong !== ""}
              aria-describedby="headers-problem"
              onInput={(e) => setSample({ ...sample, headers: e.currentTarget.value })}
            />
            <p id="headers-problem" class="field-error" role="alert">
              {headersWrong}
            </p>
          </div>
          <div class="actions">
            <button type="button" class="primary" disabled={busy} onClick={() => void test()}>
              {busy ? "Testing…" : "Test"}
            </button>
            <span class="muted">or Ctrl+Enter</span>
          </div>
        </section>
        <section aria-labelledby="row" class={stale && result ? "stale" : ""}>
          <h2 id="row">
            Row {stale && result && <span class="tag">outdated</span>}
          </h2>
          {error && <Problem error={error} title="Test failed." />}
          {!result && !error && <p class="empty">Test the record to see its row.</p>}
          {result && result.violations.length > 0 && (
            <div class="notice bad">
              <p>
                <strong>No row.</strong> This record is rejected:
              </p>
              <ul>
                {result.violations.map((p) => (
                  <li key={p.message}>
                    {p.column !== undefined && <strong>{columns[p.column]?.name || `Column ${p.column + 1}`}: </strong>}
                    {p.message}
                  </li>
                ))}
              </ul>
            </div>
          )}
          {result && result.row.length > 0 && <Row row={result.row} columns={columns} />}
        </section>
        <section aria-labelledby="json">
          <h2 id="json">Definition</h2>
          <Code label="the columns as JSON" text={definition} />
          {sink && path && <Save sink={sink} path={path} columns={columns} changed={changed} onSaved={onSaved} />}
        </section>
      </div>
    </div>
  );
}

function Row({ row, columns }: { row: { name: string; value: string }[]; columns: Column[] }) {
  // An empty cell of a typed column is NULL in the table.
  const empty = (name: string) => ((columns.find((c) => c.name === name)?.dataType ?? "text") === "text" ? "(empty)" : "NULL");
  return (
    <table class="list result">
      <caption class="visually-hidden">Row of the record</caption>
      <thead>
        <tr>
          <th scope="col">Column</th>
          <th scope="col">Value</th>
        </tr>
      </thead>
      <tbody>
        {row.map((cell) => (
          <tr key={cell.name}>
            <th scope="row">{cell.name}</th>
            <td class="text mono">{cell.value === "" ? <span class="muted">{empty(cell.name)}</span> : cell.value}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

interface TestResult {
  tables: { sinkId: string; rows: { columns: { name: string; value: string }[] }[] }[];
}

/** Tests the edited columns; a read-only token tests the saved ones. */
async function testMapping(
  columns: Column[],
  record: { body: string; headers: Header[] },
  savedTest: string | undefined,
  sink: Sink | undefined,
): Promise<Result> {
  try {
    const body = { mapping: { columns }, record };
    return await call<MappingTest>("POST", "/v1/branches/default/test-mapping", body);
  } catch (e) {
    const failure = asFailure(e);
    if (failure.status !== 403) throw failure;
    if (savedTest === undefined || sink === undefined) {
      throw new Failure(403, failure.code, "This token is read-only.", "It can test the saved columns of a sink; edited columns need an admin token.");
    }
    const body = await call<TestResult>("POST", savedTest, parsed(record.body));
    const table = body.tables.find((t) => t.sinkId === sink.sinkId);
    return { row: table?.rows[0]?.columns ?? [], violations: [] };
  }
}

/** The record as JSON, for the test of a source. */
function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    throw new Failure(0, "", "The body is not JSON.", "A read-only token can test JSON bodies only.");
  }
}

interface SaveProps {
  sink: Sink;
  path: string;
  columns: Draft[];
  changed: boolean;
  onSaved: (() => void) | undefined;
}

function Save({ sink, path, columns, changed, onSaved }: SaveProps) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Failure>();
  const save = async () => {
    setAsking(false);
    setBusy(true);
    setError(undefined);
    try {
      await run("PATCH", path, {
        changeDescription: "Columns changed in the dashboard.",
        table: { mapping: { columns: columns.map(clean) } },
      });
      announce(`Saved the columns of ${sink.name}.`);
      onSaved?.();
    } catch (e) {
      setError(asFailure(e));
    }
    setBusy(false);
  };
  return (
    <>
      {error && <Problem error={error} title="The columns were not saved." />}
      <div class="actions">
        <button type="button" disabled={!changed || busy} onClick={() => setAsking(true)}>
          {busy ? "Saving…" : `Save to ${sink.name}`}
        </button>
        <span class="muted">{changed ? "unsaved changes" : "no changes"}</span>
      </div>
      {asking && (
        <Confirm title={`Save the columns of ${sink.name}?`} yes="Save" onYes={() => void save()} onNo={() => setAsking(false)}>
          <p>
            New records get these columns. Records accepted before are imported with the previous ones. This creates
            version {sink.version.number + 1}; you can roll back to the current version.
          </p>
        </Confirm>
      )}
    </>
  );
}

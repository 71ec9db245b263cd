// Dead letters of a sink: records rejected by its mapping, or messages rejected by its topic's provider.
import { useState } from "preact/hooks";
import { asFailure, call, now, type Failure, type DeadLetter, type DeadLetterSummary, type Page, type ReplayResult } from "../api";
import { useFeed } from "../feed";
import { ago, plural, size, time } from "../format";
import { Confirm, Loading, Pre, Problem, Scroll, Section } from "../parts/basics";
import { announce } from "../parts/announce";
import { Causes, filterQuery, type Filter } from "./dead-letter-causes";
import { EditRecord } from "./dead-letter-edit";
import { exportLetters, importLetters } from "./dead-letter-files";
import { Outcome } from "./dead-letter-outcome";
import { offerSample } from "./sample";

const PAGE = 20;
/** Maximum requests of a replay or drop of all dead letters; each covers about 1000. */
const ROUNDS_MAX = 1000;

interface Props {
  path: string;
  dead: number;
  /** Messages of a topic. */
  topic: boolean;
  source: string;
  sink: string;
  onChange: () => void;
}

type Verb = "replay" | "check" | "drop";

export function DeadLetters({ path, dead, topic, source, sink, onChange }: Props) {
  const [after, setAfter] = useState<string[]>([]);
  const [filter, setFilter] = useState<Filter>({});
  const query = filterQuery(filter);
  const feed = useFeed<{ page: Page; deadLetters: DeadLetterSummary[]; moreAfterId?: string }>(
    `${path}/dead-letters?limit=${PAGE}&afterId=${encodeURIComponent(after.at(-1) ?? "")}${query}`,
    5000,
  );
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Failure>();
  const [outcome, setOutcome] = useState<{ result: ReplayResult; isDry: boolean }>();
  const letters = feed.data?.deadLetters ?? [];
  const more = feed.data?.moreAfterId;
  const here = letters.filter((l) => chosen.has(l.deadLetterId)).map((l) => l.deadLetterId);

  /** Runs an action, and shows its failure. */
  const act = async (run: () => Promise<void>) => {
    setAsking(false);
    setBusy(true);
    setError(undefined);
    setOutcome(undefined);
    try {
      await run();
    } catch (e) {
      setError(asFailure(e));
    }
    setBusy(false);
    feed.refresh();
    onChange();
  };
  const apply = (verb: Verb) =>
    act(async () => {
      const done = await all(path, verb, here, filter);
      const words = { replay: "replayed", check: "would be replayed", drop: "dropped" };
      const stay = done.rejected.length > 0 ? `, ${plural(done.rejected.length, "dead letter")} rejected again` : "";
      announce(`${plural(done.replayed, "dead letter")} ${words[verb]}${stay}.`);
      if (verb !== "drop") setOutcome({ result: done, isDry: verb === "check" });
      if (verb === "check") return;
      setChosen(new Set());
      setAfter([]);
    });
  const importFile = (file: File) =>
    act(async () => {
      const result = await importLetters(path, await file.text());
      announce(`${plural(result.replayed, "dead letter")} replayed from ${file.name}.`);
      setOutcome({ result, isDry: false });
    });
  const toggle = (id: string) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  const choose = (next: Filter) => {
    setFilter(next);
    setAfter([]);
    setChosen(new Set());
  };
  const isFiltered = query !== "";
  const target = here.length > 0 ? plural(here.length, "dead letter") : isFiltered ? "filtered" : "all";
  return (
    <Section
      id="dead-letters"
      title="Dead letters"
      note={dead > 0 ? plural(dead, "dead letter") : undefined}
      actions={
        letters.length > 0 && (
          <>
            <button type="button" disabled={busy} onClick={() => void apply("replay")}>
              Replay {target}
            </button>
            {!topic && (
              <button type="button" disabled={busy} onClick={() => void apply("check")}>
                Dry run
              </button>
            )}
            <button type="button" disabled={busy} onClick={() => setAsking(true)}>
              Drop {target}
            </button>
          </>
        )
      }
    >
      {feed.error && <Problem error={feed.error} title="Can't refresh the dead letters." onRetry={feed.refresh} />}
      {error && <Problem error={error} />}
      {outcome && <Outcome {...outcome} />}
      {!feed.data && !feed.error && <Loading what="dead letters" />}
      {(letters.length > 0 || isFiltered) && <Causes path={path} filter={filter} onFilter={choose} />}
      {feed.data && letters.length === 0 && isFiltered && <p class="empty">{more ? "None on this page." : "None passes the filter."}</p>}
      {feed.data && letters.length === 0 && !isFiltered && topic && (
        <p class="empty">None. Messages that the provider permanently rejects are stored here.</p>
      )}
      {feed.data && letters.length === 0 && !isFiltered && !topic && (
        <p class="empty">
          None. A record that the mapping rejects returns an error to its sender, unless the setting{" "}
          <code>storage.level.local.mapping.rejected.action</code> is <code>dead_letter</code>: then it is stored here.
        </p>
      )}
      {letters.length > 0 && (
        <Scroll label="Dead letters">
          <table class="list dead-letters cards">
            <thead>
              <tr>
                <td class="tick">
                  <input
                    type="checkbox"
                    aria-label="Select all on this page"
                    checked={here.length === letters.length}
                    onChange={() => setChosen(new Set(here.length === letters.length ? [] : letters.map((l) => l.deadLetterId)))}
                  />
                </td>
                <th scope="col">Received</th>
                <th scope="col">Error</th>
                <th scope="col" class="number">
                  Size
                </th>
                <th scope="col">Record</th>
              </tr>
            </thead>
            <tbody>
              {letters.map((l) => (
                <DeadLetterRow
                  key={l.deadLetterId}
                  letter={l}
                  path={path}
                  chosen={chosen.has(l.deadLetterId)}
                  onToggle={() => toggle(l.deadLetterId)}
                  to={topic ? undefined : { source, sink }}
                  onReplayed={() => void act(async () => undefined)}
                />
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
      {(after.length > 0 || more) && (
        <div class="actions pager">
          <button type="button" class="small" disabled={after.length === 0} onClick={() => setAfter(after.slice(0, -1))}>
            Previous page
          </button>
          <button type="button" class="small" disabled={!more} onClick={() => setAfter([...after, more ?? ""])}>
            Next page
          </button>
        </div>
      )}
      {(letters.length > 0 || isFiltered) && (
        <div class="actions">
          <button type="button" class="small" disabled={busy} onClick={() => void act(() => exportLetters(path, query, `${source}-${sink}`))}>
            Export {isFiltered ? "filtered" : "all"} (NDJSON)
          </button>
          <label class="button small">
            Import edited records
            <input
              type="file"
              class="visually-hidden"
              accept=".ndjson,.jsonl,.json"
              disabled={busy}
              onChange={(e) => {
                const [file] = e.currentTarget.files ?? [];
                if (file) void importFile(file);
                e.currentTarget.value = "";
              }}
            />
          </label>
        </div>
      )}
      {asking && (
        <Confirm
          title={here.length > 0 ? `Drop ${plural(here.length, "dead letter")}?` : isFiltered ? "Drop all dead letters that pass the filter?" : "Drop all dead letters?"}
          yes="Drop permanently"
          danger
          onYes={() => void apply("drop")}
          onNo={() => setAsking(false)}
        >
          <p>
            {here.length === 1 ? "The record is" : "These records are"} deleted permanently. The reconciliation counts{" "}
            {here.length === 1 ? "it" : "them"} as dropped.
          </p>
        </Confirm>
      )}
    </Section>
  );
}

/** Replays, checks or drops the given dead letters, or all that pass the filter with several requests. */
async function all(path: string, verb: Verb, ids: string[], filter: Filter): Promise<ReplayResult> {
  const sum: ReplayResult = { replayed: 0, rejected: [], rows: [] };
  const conditions = filterQuery(filter) === "" ? {} : { filter };
  const dry = verb === "check" ? { dryRun: true } : {};
  let body: object = ids.length > 0 ? { deadLetterIds: ids, ...dry } : { ...conditions, ...dry };
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const done = await call<ReplayResult & { dropped?: number }>("POST", `${path}/dead-letters/${verb === "drop" ? "drop" : "replay"}`, body);
    sum.replayed += done.replayed ?? done.dropped ?? 0;
    sum.rejected.push(...(done.rejected ?? []));
    sum.rows?.push(...(done.rows ?? []));
    if (!done.moreAfterId) break;
    body = { ...conditions, ...dry, afterId: done.moreAfterId };
  }
  return sum;
}

interface RowProps {
  letter: DeadLetterSummary;
  path: string;
  chosen: boolean;
  onToggle: () => void;
  /** The sink whose mapping rejected it. */
  to: { source: string; sink: string } | undefined;
  onReplayed: () => void;
}

function DeadLetterRow({ letter, path, chosen, onToggle, to, onReplayed }: RowProps) {
  const [open, setOpen] = useState(false);
  const details = `dead-letter-${letter.deadLetterId}`;
  return (
    <>
      <tr class={chosen ? "chosen" : ""}>
        <td class="tick">
          <input type="checkbox" aria-label={`Select the dead letter of ${time(letter.receivedAt)}`} checked={chosen} onChange={onToggle} />
        </td>
        <th scope="row">
          <time dateTime={letter.receivedAt} title={time(letter.receivedAt)}>
            {ago(letter.receivedAt, now())}
          </time>
        </th>
        <td class="text" data-name="Error">
          {letter.message}
        </td>
        <td class="number" data-name="Size">
          {size(letter.size)}
        </td>
        <td data-name="Record">
          <button type="button" class="small" aria-expanded={open} aria-controls={details} onClick={() => setOpen(!open)}>
            {open ? "Hide" : "Show"}
            <span class="visually-hidden"> the record of {time(letter.receivedAt)}</span>
          </button>
        </td>
      </tr>
      <tr id={details} class="details" hidden={!open}>
        <td colSpan={5}>{open && <Record path={path} id={letter.deadLetterId} to={to} onReplayed={onReplayed} />}</td>
      </tr>
    </>
  );
}

function Record({ path, id, to, onReplayed }: { path: string; id: string } & Pick<RowProps, "to" | "onReplayed">) {
  // A dead letter does not change: refreshed once an hour.
  const feed = useFeed<DeadLetter>(`${path}/dead-letters/${encodeURIComponent(id)}`, 3_600_000);
  const letter = feed.data;
  if (feed.error) return <Problem error={feed.error} title="Can't load the record." onRetry={feed.refresh} />;
  if (!letter) return <Loading what="the record" />;
  const headers = Object.entries(letter.headers).map(([name, value]) => `${name}: ${value}`);
  return (
    <div class="record">
      <p class="muted">
        {letter.clientIp ? `From ${letter.clientIp}` : "A message"}
        {letter.line !== undefined && <>, line {letter.line} of its batch</>}, {time(letter.receivedAt)}, dead letter{" "}
        <code>{letter.deadLetterId}</code>
      </p>
      <h3>Body{letter.body === undefined && " (Base64)"}</h3>
      <Pre label="the body" text={letter.body ?? letter.bodyBase64 ?? ""} />
      <h3>Headers</h3>
      <Pre label="the headers" text={headers.join("\n") || "none"} />
      {letter.body !== undefined && <EditRecord path={path} id={id} body={letter.body} onReplayed={onReplayed} />}
      {to && letter.body !== undefined && (
        <p>
          <a
            href={`#/sources/${encodeURIComponent(to.source)}/sinks/${encodeURIComponent(to.sink)}/mapping`}
            onClick={() => offerSample({ body: letter.body ?? "", headers: headers.join("\n") })}
          >
            Test it in the playground
          </a>
        </p>
      )}
    </div>
  );
}

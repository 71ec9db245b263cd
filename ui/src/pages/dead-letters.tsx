// Dead letters of a sink: records rejected by its mapping, or messages rejected by its topic's provider.
import { useState } from "preact/hooks";
import { asFailure, call, now, type Failure, type DeadLetter, type DeadLetterSummary, type Page } from "../api";
import { useFeed } from "../feed";
import { ago, plural, size, time } from "../format";
import { Confirm, Loading, Pre, Problem, Scroll, Section } from "../parts/basics";
import { announce } from "../parts/announce";
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

interface Result {
  replayed?: number;
  dropped?: number;
  rejected?: { deadLetterId: string; message: string }[];
  moreAfterId?: string;
}

export function DeadLetters({ path, dead, topic, source, sink, onChange }: Props) {
  const [after, setAfter] = useState<string[]>([]);
  const feed = useFeed<{ page: Page; deadLetters: DeadLetterSummary[] }>(
    `${path}/dead-letters?limit=${PAGE}&afterId=${encodeURIComponent(after.at(-1) ?? "")}`,
    5000,
  );
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Failure>();
  const [rejected, setRejected] = useState<{ deadLetterId: string; message: string }[]>([]);
  const letters = feed.data?.deadLetters ?? [];
  const here = letters.filter((l) => chosen.has(l.deadLetterId)).map((l) => l.deadLetterId);

  const act = async (verb: "replay" | "drop") => {
    setAsking(false);
    setBusy(true);
    setError(undefined);
    setRejected([]);
    try {
      const done = await all(path, verb, here);
      const what = verb === "replay" ? "replayed" : "dropped";
      const stay = done.rejected.length > 0 ? `, ${plural(done.rejected.length, "dead letter")} rejected again` : "";
      announce(`${plural(done.count, "dead letter")} ${what}${stay}.`);
      setRejected(done.rejected.slice(0, 5));
      setChosen(new Set());
      setAfter([]);
    } catch (e) {
      setError(asFailure(e));
    }
    setBusy(false);
    feed.refresh();
    onChange();
  };
  const toggle = (id: string) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  const target = here.length > 0 ? plural(here.length, "dead letter") : "all";
  return (
    <Section
      id="dead-letters"
      title="Dead letters"
      note={dead > 0 ? plural(dead, "dead letter") : undefined}
      actions={
        letters.length > 0 && (
          <>
            <button type="button" disabled={busy} onClick={() => void act("replay")}>
              Replay {target}
            </button>
            <button type="button" disabled={busy} onClick={() => setAsking(true)}>
              Drop {target}
            </button>
          </>
        )
      }
    >
      {feed.error && <Problem error={feed.error} title="Can't refresh the dead letters." onRetry={feed.refresh} />}
      {error && <Problem error={error} />}
      {rejected.length > 0 && (
        <div class="notice warn" role="alert">
          <p>
            <strong>The mapping still rejects these.</strong> Fix it in the playground, then replay them again.
          </p>
          <ul>
            {rejected.map((r) => (
              <li key={r.deadLetterId}>
                <code>{r.deadLetterId}</code>: {r.message}
              </li>
            ))}
          </ul>
        </div>
      )}
      {!feed.data && !feed.error && <Loading what="dead letters" />}
      {feed.data && letters.length === 0 && topic && (
        <p class="empty">None. Messages that the provider permanently rejects are stored here.</p>
      )}
      {feed.data && letters.length === 0 && !topic && (
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
                <DeadLetterRow key={l.deadLetterId} letter={l} path={path} chosen={chosen.has(l.deadLetterId)} onToggle={() => toggle(l.deadLetterId)} to={topic ? undefined : { source, sink }} />
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
      {(after.length > 0 || letters.length === PAGE) && (
        <div class="actions pager">
          <button type="button" class="small" disabled={after.length === 0} onClick={() => setAfter(after.slice(0, -1))}>
            Previous page
          </button>
          <button
            type="button"
            class="small"
            disabled={letters.length < PAGE}
            onClick={() => setAfter([...after, letters.at(-1)?.deadLetterId ?? ""])}
          >
            Next page
          </button>
        </div>
      )}
      {asking && (
        <Confirm
          title={here.length > 0 ? `Drop ${plural(here.length, "dead letter")}?` : "Drop all dead letters?"}
          yes="Drop permanently"
          danger
          onYes={() => void act("drop")}
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

/** Replays or drops the given dead letters, or all of them with several requests. */
async function all(path: string, verb: "replay" | "drop", ids: string[]) {
  const rejected: { deadLetterId: string; message: string }[] = [];
  let total = 0;
  let body: object = ids.length > 0 ? { deadLetterIds: ids } : {};
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const done = await call<Result>("POST", `${path}/dead-letters/${verb}`, body);
    total += done.replayed ?? done.dropped ?? 0;
    rejected.push(...(done.rejected ?? []));
    if (!done.moreAfterId) break;
    body = { afterId: done.moreAfterId };
  }
  return { count: total, rejected };
}

interface RowProps {
  letter: DeadLetterSummary;
  path: string;
  chosen: boolean;
  onToggle: () => void;
  /** The sink whose mapping rejected it. */
  to: { source: string; sink: string } | undefined;
}

function DeadLetterRow({ letter, path, chosen, onToggle, to }: RowProps) {
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
        <td colSpan={5}>{open && <Record url={`${path}/dead-letters/${encodeURIComponent(letter.deadLetterId)}`} to={to} />}</td>
      </tr>
    </>
  );
}

function Record({ url, to }: { url: string; to: RowProps["to"] }) {
  // A dead letter does not change: refreshed once an hour.
  const feed = useFeed<DeadLetter>(url, 3_600_000);
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

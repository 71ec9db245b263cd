// Edits the record of a dead letter and replays it.
import { useState } from "preact/hooks";
import { asFailure, call, type Failure, type ReplayResult } from "../api";
import { announce } from "../parts/announce";
import { Problem } from "../parts/basics";
import { Outcome } from "./dead-letter-outcome";

export function EditRecord({ path, id, body, onReplayed }: { path: string; id: string; body: string; onReplayed: () => void }) {
  const [text, setText] = useState<string>();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Failure>();
  const [outcome, setOutcome] = useState<{ result: ReplayResult; isDry: boolean }>();
  if (text === undefined) {
    return (
      <button type="button" class="small" onClick={() => setText(body)}>
        Edit and replay
      </button>
    );
  }
  const replay = async (isDry: boolean) => {
    setBusy(true);
    setError(undefined);
    setOutcome(undefined);
    try {
      const edits = [{ deadLetterId: id, body: text }];
      const result = await call<ReplayResult>("POST", `${path}/dead-letters/replay`, { edits, dryRun: isDry });
      setOutcome({ result, isDry });
      if (!isDry && result.rejected.length === 0) {
        announce("1 edited dead letter replayed.");
        onReplayed();
      }
    } catch (e) {
      setError(asFailure(e));
    }
    setBusy(false);
  };
  return (
    <div class="edit">
      <label>
        Edited body
        <textarea rows={8} spellcheck={false} value={text} onInput={(e) => setText(e.currentTarget.value)} />
      </label>
      <div class="actions">
        <button type="button" class="small" disabled={busy} onClick={() => void replay(true)}>
          Check
        </button>
        <button type="button" class="small" disabled={busy} onClick={() => void replay(false)}>
          Replay edited
        </button>
        <button type="button" class="small" disabled={busy} onClick={() => setText(undefined)}>
          Cancel
        </button>
      </div>
      {error && <Problem error={error} />}
      {outcome && <Outcome {...outcome} />}
    </div>
  );
}

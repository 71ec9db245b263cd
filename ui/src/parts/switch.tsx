// Disables and enables a source or sink.
import { useState } from "preact/hooks";
import { asFailure, run, type Event, type Failure } from "../api";
import { time } from "../format";
import { Confirm, Problem } from "./basics";
import { announce } from "./announce";

interface Props {
  kind: "source" | "sink";
  name: string;
  path: string;
  disabled?: (Event & { reason: string }) | undefined;
  onDone: () => void;
}

export function Switch({ kind, name, path, disabled, onDone }: Props) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Failure>();
  const change = async (verb: "enable" | "disable") => {
    setAsking(false);
    setBusy(true);
    setError(undefined);
    try {
      await run("PUT", `${path}/${verb}${verb === "disable" ? "?reason=Dashboard" : ""}`);
      announce(`${name} ${verb}d.`);
      onDone();
    } catch (e) {
      setError(asFailure(e));
    }
    setBusy(false);
  };
  return (
    <>
      <button type="button" disabled={busy} onClick={() => (disabled ? void change("enable") : setAsking(true))}>
        {busy ? "Working…" : disabled ? `Enable ${kind}` : `Disable ${kind}`}
      </button>
      {error && <Problem error={error} />}
      {asking && (
        <Confirm title={`Disable ${name}?`} yes="Disable" danger onYes={() => void change("disable")} onNo={() => setAsking(false)}>
          {kind === "source" ? (
            <p>Its URL rejects records until it is enabled again. Accepted records are still delivered.</p>
          ) : (
            <p>It gets no records of its source until it is enabled again. Accepted records are still delivered.</p>
          )}
        </Confirm>
      )}
    </>
  );
}

/** Shows that something is disabled, since when and why. */
export function DisabledNotice({ kind, disabled }: { kind: string; disabled: Event & { reason: string } }) {
  return (
    <div class="notice warn">
      <p>
        <strong>This {kind} is disabled</strong> since {time(disabled.at)}
        {disabled.reason && <>: {disabled.reason}</>}. It accepts no records.
      </p>
    </div>
  );
}

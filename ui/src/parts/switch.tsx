// Switching a source or sink off and on.
import { useState } from "preact/hooks";
import { asFailure, run, type Event, type Failure } from "../api";
import { time } from "../format";
import { Confirm, Problem } from "./basics";
import { say } from "./say";

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
      say(`${name} is ${verb}d.`);
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
            <p>Its address refuses records until it is enabled again. What it has taken is still delivered.</p>
          ) : (
            <p>Records of its source no longer become rows of this sink. What it has taken is still delivered.</p>
          )}
        </Confirm>
      )}
    </>
  );
}

/** Says that something is switched off, when and why. */
export function DisabledNotice({ kind, disabled }: { kind: string; disabled: Event & { reason: string } }) {
  return (
    <div class="notice warn">
      <p>
        <strong>This {kind} is disabled</strong> since {time(disabled.at)}
        {disabled.reason && <>: {disabled.reason}</>}. It takes no records.
      </p>
    </div>
  );
}

// Retries the failed uploads and imports of a sink, or the delivery of a topic, without waiting for the next attempt.
import { useState } from "preact/hooks";
import { asFailure, call, type Failure } from "../api";
import { plural } from "../format";
import { announce } from "./announce";
import { Problem } from "./basics";

interface Retried {
  files: number;
  slices: number;
  /** Of a topic. */
  messages?: number;
}

export function RetryButton({ path, onDone }: { path: string; onDone: () => void }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Failure>();
  const retry = async () => {
    setBusy(true);
    setError(undefined);
    try {
      const { files, slices, messages } = await call<Retried>("POST", `${path}/retry`);
      const what = messages === undefined ? `${plural(files, "import")} and ${plural(slices, "upload")}` : `the delivery of ${plural(messages, "message")}`;
      announce(`Retrying ${what}.`);
      onDone();
    } catch (e) {
      setError(asFailure(e));
    }
    setBusy(false);
  };
  return (
    <>
      <button type="button" class="small" disabled={busy} onClick={() => void retry()}>
        {busy ? "Working…" : "Retry now"}
      </button>
      {error && <Problem error={error} />}
    </>
  );
}

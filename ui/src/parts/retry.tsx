// Retries the failed uploads and imports of a sink without waiting for the next attempt.
import { useState } from "preact/hooks";
import { asFailure, call, type Failure } from "../api";
import { plural } from "../format";
import { announce } from "./announce";
import { Problem } from "./basics";

interface Retried {
  files: number;
  slices: number;
}

export function RetryButton({ path, onDone }: { path: string; onDone: () => void }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Failure>();
  const retry = async () => {
    setBusy(true);
    setError(undefined);
    try {
      const { files, slices } = await call<Retried>("POST", `${path}/retry`);
      announce(`Retrying ${plural(files, "import")} and ${plural(slices, "upload")}.`);
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

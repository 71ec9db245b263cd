// Login: verifies a token with the server and stores it for this tab.
import { useRef, useState } from "preact/hooks";
import { asFailure, ask, Failure, session, SOURCES } from "../api";
import { useTitle } from "../title";

export function Login({ why, onOpen }: { why: string; onOpen: () => void }) {
  useTitle("Log in");
  const [token, setToken] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Failure>();
  const input = useRef<HTMLInputElement>(null);

  const submit = async (event: Event) => {
    event.preventDefault();
    const given = token.trim();
    if (!given) {
      setError(new Failure(0, "", "Enter a token.", ""));
      input.current?.focus();
      return;
    }
    setBusy(true);
    try {
      await ask(given, "GET", `${SOURCES}?limit=1`);
      session.open(given);
      onOpen();
    } catch (e) {
      const failure = asFailure(e);
      setError(
        failure.status === 401
          ? new Failure(401, "", "Unknown token.", "Check that the whole token was pasted, and that it was created on this server.")
          : failure,
      );
      setBusy(false);
      input.current?.focus();
    }
  };

  return (
    <div class="login">
      <h1 tabIndex={-1}>Log in</h1>
      <p class="muted">Sources, sinks, rates and failures of this server.</p>
      {why && (
        <div class="notice warn" role="alert">
          <p>{why}</p>
        </div>
      )}
      <form onSubmit={(e) => void submit(e)} noValidate>
        <label for="token">Token</label>
        <input
          id="token"
          ref={input}
          type="password"
          autocomplete="off"
          spellcheck={false}
          value={token}
          onInput={(e) => setToken(e.currentTarget.value)}
          aria-invalid={error !== undefined}
          aria-describedby="token-help token-error"
          required
        />
        <p id="token-error" class="field-error" role="alert">
          {error && `${error.message} ${error.hint}`}
        </p>
        <button type="submit" class="primary" disabled={busy}>
          {busy ? "Checking…" : "Log in"}
        </button>
        <p id="token-help" class="muted">
          The server's own token is in the file <code>token</code> in its data directory; <code>forebay token create</code>{" "}
          creates others, also read-only ones. It is stored in this tab only, until the tab is closed.
        </p>
      </form>
    </div>
  );
}

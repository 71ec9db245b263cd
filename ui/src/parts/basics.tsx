// Components shared by all pages.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState, type MutableRef } from "preact/hooks";
import type { Failure } from "../api";
import type { Status } from "../health";

/** A state as a colored dot with its word, which carries the meaning. */
export function Badge({ tone, text }: Status) {
  return <span class={`badge ${tone}`}>{text}</span>;
}

/** A failed request with a hint. */
export function Problem({ error, title, onRetry }: { error: Failure; title?: string; onRetry?: () => void }) {
  return (
    <div class="notice bad" role="alert">
      <p>
        <strong>{title ?? "Request failed."}</strong> {error.message}
      </p>
      {error.hint && <p class="muted">{error.hint}</p>}
      {onRetry && (
        <button type="button" class="small" onClick={onRetry}>
          Retry now
        </button>
      )}
    </div>
  );
}

/** Loading indicator, as high as the content, so that the layout does not jump. */
export function Loading({ what }: { what: string }) {
  return (
    <p class="loading muted" role="status">
      Loading {what}…
    </p>
  );
}

/** A button that copies a text. */
export function Copy({ text, label }: { text: string; label: string }) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("Copied");
    } catch {
      setSaid("Copy failed");
    }
  };
  useEffect(() => {
    if (!said) return undefined;
    const timer = setTimeout(() => setSaid(""), 2500);
    return () => clearTimeout(timer);
  }, [said]);
  return (
    <button type="button" class="small copy" aria-label={`Copy ${label}`} onClick={() => void copy()}>
      <span aria-live="polite">{said || "Copy"}</span>
    </button>
  );
}

/** Whether the content overflows its box, which then must be focusable for scrolling by keyboard. */
function useOverflow(box: MutableRef<HTMLElement | null>): boolean {
  const [over, setOver] = useState(false);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const look = () => setOver(element.scrollWidth > element.clientWidth || element.scrollHeight > element.clientHeight);
    const observer = new ResizeObserver(look);
    observer.observe(element);
    if (element.firstElementChild) observer.observe(element.firstElementChild);
    look();
    return () => observer.disconnect();
  }, []);
  return over;
}

/** Attributes of a box that scrolls by keyboard. */
const scrollable = (over: boolean, label: string) => (over ? { tabIndex: 0, role: "group" as const, "aria-label": label } : {});

/** Preformatted text in a scrollable box. */
export function Pre({ text, label }: { text: string; label: string }) {
  const box = useRef<HTMLPreElement>(null);
  return (
    <pre ref={box} class="plain" {...scrollable(useOverflow(box), label)}>
      <code>{text}</code>
    </pre>
  );
}

/** Text with a copy button. */
export function Code({ text, label }: { text: string; label: string }) {
  return (
    <div class="code">
      <Pre text={text} label={label} />
      <Copy text={text} label={label} />
    </div>
  );
}

/** A modal confirmation. `Escape` and Cancel mean no. */
export function Confirm(props: {
  title: string;
  yes: string;
  danger?: boolean;
  children: ComponentChildren;
  onYes: () => void;
  onNo: () => void;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    const before = document.activeElement;
    element?.showModal();
    return () => {
      element?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby="confirm-title" onCancel={props.onNo}>
      <h2 id="confirm-title">{props.title}</h2>
      <div class="dialog-text">{props.children}</div>
      <div class="actions end">
        <button type="button" onClick={props.onNo}>
          Cancel
        </button>
        <button type="button" class={props.danger ? "danger" : "primary"} onClick={props.onYes}>
          {props.yes}
        </button>
      </div>
    </dialog>
  );
}

/** A figure with its name and a note. */
export function Tile(props: { name: string; value: string; unit?: string; note?: string; tone?: "bad" | "warn"; children?: ComponentChildren }) {
  return (
    <div class={`tile ${props.tone ?? ""}`}>
      <dt>{props.name}</dt>
      <dd>
        <span class="value">{props.value}</span>
        {props.unit && <span class="unit"> {props.unit}</span>}
      </dd>
      <dd class="note">{props.note ?? "\u00a0"}</dd>
      {props.children}
    </div>
  );
}

/** A section with its heading. */
export function Section(props: { id: string; title: string; note?: ComponentChildren; actions?: ComponentChildren; children: ComponentChildren }) {
  return (
    <section aria-labelledby={props.id}>
      <div class="section-head">
        <h2 id={props.id}>{props.title}</h2>
        {props.note && <span class="muted">{props.note}</span>}
        {props.actions && <div class="actions">{props.actions}</div>}
      </div>
      {props.children}
    </section>
  );
}

/** A table that scrolls if it is too wide. */
export function Scroll({ label, children }: { label: string; children: ComponentChildren }) {
  const box = useRef<HTMLDivElement>(null);
  return (
    <div ref={box} class="scroll" {...scrollable(useOverflow(box), label)}>
      {children}
    </div>
  );
}

// Editor of the columns of a mapping.
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Column, ColumnType, DataType, TimeUnit } from "../api";
import { announce } from "../parts/announce";

/** A column with a key that identifies it in the editor. */
export interface Draft extends Column {
  key: number;
}

export const TYPES: { type: ColumnType; says: string }[] = [
  { type: "uuid", says: "new UUID" },
  { type: "datetime", says: "time of receipt" },
  { type: "ip", says: "sender's address" },
  { type: "body", says: "whole body" },
  { type: "headers", says: "headers as JSON" },
  { type: "path", says: "value in the body" },
  { type: "template", says: "Jsonnet template" },
  { type: "static", says: "fixed text" },
];

const UNITS: { unit: TimeUnit; says: string }[] = [
  { unit: "s", says: "seconds" },
  { unit: "ms", says: "milliseconds" },
  { unit: "us", says: "microseconds" },
  { unit: "ns", says: "nanoseconds" },
];

/** The types that the cells of a column can have. */
function dataTypes({ type, primaryKey }: Column): DataType[] {
  if (type === "body" || type === "headers") return primaryKey ? ["text"] : ["text", "json"];
  if (type === "datetime") return ["text", "timestamp"];
  if (type === "uuid" || type === "ip") return ["text"];
  const ofKey: DataType[] = ["text", "integer", "boolean", "timestamp"];
  return primaryKey ? ofKey : ["text", "integer", "double", "boolean", "timestamp", "json"];
}

/** The type of a column's cells; text after a change that allows no other. */
function dataType(column: Column): DataType {
  const chosen = column.dataType ?? "text";
  return dataTypes(column).includes(chosen) ? chosen : "text";
}

let keys = 0;
export const draft = (column: Column): Draft => ({ ...column, key: keys++ });

/** The API form: only the fields of the column's type. */
export function clean({ key: _, ...column }: Draft): Column {
  const { type, name } = column;
  const cleaned: Column = { type, name };
  if (type === "path") {
    cleaned.path = column.path ?? "";
    if (column.defaultValue !== undefined) cleaned.defaultValue = column.defaultValue;
  }
  if (type === "template") cleaned.template = { language: "jsonnet", content: column.template?.content ?? "" };
  if (type === "path" || type === "template") cleaned.rawString = column.rawString ?? true;
  if (type === "static") cleaned.value = column.value ?? "";
  if (column.primaryKey) cleaned.primaryKey = true;
  if (dataType(column) !== "text") cleaned.dataType = dataType(column);
  if (cleaned.dataType === "timestamp" && column.unit) cleaned.unit = column.unit;
  return cleaned;
}

interface Props {
  columns: Draft[];
  /** Violations by index. */
  violations: Map<number, string>;
  onChange: (columns: Draft[]) => void;
}

export function Columns({ columns, violations, onChange }: Props) {
  const list = useRef<HTMLOListElement>(null);
  // Selector of the element to focus after the next rendering.
  const focus = useRef("");
  // Before the next input event, so that no key is lost.
  useLayoutEffect(() => {
    if (!focus.current) return;
    list.current?.querySelector<HTMLElement>(focus.current)?.focus();
    focus.current = "";
  });

  const replace = (i: number, column: Draft) => onChange(columns.map((c, at) => (at === i ? column : c)));
  const move = (i: number, by: number, at: string) => {
    const to = i + by;
    const moved = columns[i];
    if (!moved || to < 0 || to >= columns.length) return;
    const next = columns.filter((_, j) => j !== i);
    next.splice(to, 0, moved);
    onChange(next);
    // At an end the pressed button is disabled: focus the other one.
    const off = (to === 0 && at === "up") || (to === columns.length - 1 && at === "down");
    const target = off ? (at === "up" ? "down" : "up") : at;
    focus.current = `[data-key="${moved.key}"] [data-at="${target}"]`;
    announce(`${moved.name || "The column"} moved to position ${to + 1} of ${columns.length}.`, true);
  };
  const remove = (i: number) => {
    const removed = columns[i];
    const next = columns.filter((_, j) => j !== i);
    onChange(next);
    const neighbour = next[Math.min(i, next.length - 1)];
    if (neighbour) focus.current = `[data-key="${neighbour.key}"] [data-at="name"]`;
    announce(`${removed?.name || "The column"} removed.`, true);
  };
  const add = () => {
    const column = draft({ type: "path", name: "", path: "", rawString: true });
    onChange([...columns, column]);
    focus.current = `[data-key="${column.key}"] [data-at="name"]`;
  };

  return (
    <>
      <ol class="column-list" ref={list}>
        {columns.map((column, i) => (
          <Editor
            key={column.key}
            column={column}
            place={i}
            count={columns.length}
            problem={violations.get(i)}
            onChange={(c) => replace(i, c)}
            onMove={(by, at) => move(i, by, at)}
            onRemove={() => remove(i)}
          />
        ))}
      </ol>
      <button type="button" onClick={add} disabled={columns.length >= 100}>
        Add column
      </button>
      <p class="muted hint">Alt + Up or Down moves the current column.</p>
    </>
  );
}

interface EditorProps {
  column: Draft;
  place: number;
  count: number;
  problem: string | undefined;
  onChange: (column: Draft) => void;
  onMove: (by: number, at: string) => void;
  onRemove: () => void;
}

function Editor({ column, place, count, problem, onChange, onMove, onRemove }: EditorProps) {
  const id = `column-${column.key}`;
  const set = (change: Partial<Draft>) => onChange({ ...column, ...change });
  const called = column.name || `column ${place + 1}`;
  const onKeyDown = (event: KeyboardEvent) => {
    const by = event.altKey ? { ArrowUp: -1, ArrowDown: 1 }[event.key] : undefined;
    if (by === undefined || !(event.target instanceof HTMLElement)) return;
    event.preventDefault();
    onMove(by, event.target.dataset.at ?? "name");
  };
  const mark = problem ? { "aria-invalid": true as const, "aria-describedby": `${id}-problem` } : {};
  // The field of the violation: the name, or the source of the cell if the type has one.
  const ofName = /^Column (name "|\d+ has an empty name)/.test(problem ?? "") || !["path", "template", "static"].includes(column.type);
  const [nameWrong, wrong] = ofName ? [mark, {}] : [{}, mark];
  return (
    <li data-key={column.key} class={problem ? "wrong" : ""} onKeyDown={onKeyDown}>
      <fieldset>
        <legend class="visually-hidden">
          Column {place + 1}: {called}
        </legend>
        <div class="fields">
          <div class="field">
            <label for={`${id}-name`}>Name</label>
            <input
              id={`${id}-name`}
              data-at="name"
              value={column.name}
              spellcheck={false}
              autocomplete="off"
              onInput={(e) => set({ name: e.currentTarget.value })}
              {...nameWrong}
            />
          </div>
          <div class="field">
            <label for={`${id}-type`}>Source</label>
            <select id={`${id}-type`} data-at="type" value={column.type} onChange={(e) => set({ type: e.currentTarget.value as ColumnType })}>
              {TYPES.map(({ type, says }) => (
                <option key={type} value={type}>
                  {type}: {says}
                </option>
              ))}
            </select>
          </div>
          <div class="row-buttons">
            <button type="button" class="icon" data-at="up" disabled={place === 0} aria-label={`Move ${called} up`} onClick={() => onMove(-1, "up")}>
              ↑
            </button>
            <button
              type="button"
              class="icon"
              data-at="down"
              disabled={place === count - 1}
              aria-label={`Move ${called} down`}
              onClick={() => onMove(1, "down")}
            >
              ↓
            </button>
            <button type="button" class="icon" data-at="remove" aria-label={`Remove ${called}`} onClick={onRemove}>
              ×
            </button>
          </div>
        </div>
        <Source column={column} id={id} set={set} wrong={wrong} />
        <Type column={column} id={id} set={set} />
        <div class="checks">
          {(column.type === "path" || column.type === "template") && dataType(column) === "text" && (
            <label>
              <input type="checkbox" data-at="raw" checked={column.rawString ?? true} onChange={(e) => set({ rawString: e.currentTarget.checked })} />{" "}
              Strings without JSON quotes
            </label>
          )}
          <label>
            <input type="checkbox" data-at="primary" checked={column.primaryKey ?? false} onChange={(e) => set({ primaryKey: e.currentTarget.checked })} />{" "}
            Primary key
          </label>
        </div>
        {problem && (
          <p id={`${id}-problem`} class="field-error">
            {problem}
          </p>
        )}
      </fieldset>
    </li>
  );
}

interface SourceProps {
  column: Draft;
  id: string;
  set: (change: Partial<Draft>) => void;
  wrong: object;
}

/** The type of the cells, if there is a choice. */
function Type({ column, id, set }: Omit<SourceProps, "wrong">) {
  const types = dataTypes(column);
  const chosen = dataType(column);
  if (types.length === 1) return null;
  return (
    <div class="fields two">
      <div class="field">
        <label for={`${id}-data-type`}>Data type</label>
        <select
          id={`${id}-data-type`}
          data-at="data-type"
          value={chosen}
          onChange={(e) => set({ dataType: e.currentTarget.value as DataType })}
        >
          {types.map((type) => (
            <option key={type} value={type}>
              {type}
            </option>
          ))}
        </select>
      </div>
      {chosen === "timestamp" && column.type !== "datetime" && (
        <div class="field">
          <label for={`${id}-unit`}>Unit of numbers</label>
          <select
            id={`${id}-unit`}
            data-at="unit"
            value={column.unit ?? ""}
            onChange={(e) => set({ unit: (e.currentTarget.value || undefined) as never })}
          >
            <option value="">by their magnitude</option>
            {UNITS.map(({ unit, says }) => (
              <option key={unit} value={unit}>
                {says}
              </option>
            ))}
          </select>
        </div>
      )}
    </div>
  );
}

/** The fields of a column's type. */
function Source({ column, id, set, wrong }: SourceProps) {
  if (column.type === "path") {
    const optional = column.defaultValue !== undefined;
    return (
      <div class="fields two">
        <div class="field">
          <label for={`${id}-path`}>Path</label>
          <input
            id={`${id}-path`}
            data-at="path"
            class="mono"
            placeholder="user.tags[0]; empty for the whole body"
            spellcheck={false}
            value={column.path ?? ""}
            onInput={(e) => set({ path: e.currentTarget.value })}
            {...wrong}
          />
        </div>
        <div class="field">
          <label class="check" for={`${id}-optional`}>
            <input
              type="checkbox"
              id={`${id}-optional`}
              data-at="optional"
              checked={optional}
              onChange={(e) => {
                const { defaultValue: _, ...rest } = column;
                set(e.currentTarget.checked ? { defaultValue: "" } : { ...rest, defaultValue: undefined as never });
              }}
            />{" "}
            Default if missing
          </label>
          <input
            aria-label="Default value"
            data-at="default"
            class="mono"
            disabled={!optional}
            placeholder={optional ? "empty text" : "record is rejected"}
            value={column.defaultValue ?? ""}
            onInput={(e) => set({ defaultValue: e.currentTarget.value })}
          />
        </div>
      </div>
    );
  }
  if (column.type === "template") {
    const content = column.template?.content ?? "";
    return (
      <div class="field">
        <label for={`${id}-template`}>Template (Jsonnet)</label>
        <textarea
          id={`${id}-template`}
          data-at="template"
          class="mono"
          rows={Math.min(12, Math.max(2, content.split("\n").length))}
          maxLength={4096}
          placeholder={'Body("price") * Body("count")'}
          spellcheck={false}
          value={content}
          onInput={(e) => set({ template: { language: "jsonnet", content: e.currentTarget.value } })}
          {...wrong}
        />
      </div>
    );
  }
  if (column.type === "static") {
    return (
      <div class="field">
        <label for={`${id}-value`}>Text</label>
        <input id={`${id}-value`} data-at="value" class="mono" value={column.value ?? ""} onInput={(e) => set({ value: e.currentTarget.value })} {...wrong} />
      </div>
    );
  }
  return null;
}

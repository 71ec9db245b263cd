// Result of a replay, or of its dry run.
import type { ReplayResult } from "../api";
import { plural } from "../format";
import { Scroll } from "../parts/basics";

/** Maximum rejections shown. */
const REJECTED_SHOWN = 5;

export function Outcome({ result, isDry }: { result: ReplayResult; isDry: boolean }) {
  const { replayed, rejected, skippedIds = [], rows = [] } = result;
  if (!isDry && rejected.length === 0 && skippedIds.length === 0) return null;
  const names = rows[0]?.row.map((cell) => cell.name) ?? [];
  return (
    <div class={`notice ${rejected.length > 0 ? "warn" : ""}`} role={rejected.length > 0 ? "alert" : "status"}>
      {isDry && (
        <p>
          <strong>{plural(replayed, "dead letter")} would be replayed</strong>, {rejected.length} rejected again. Nothing was changed.
        </p>
      )}
      {skippedIds.length > 0 && <p>{plural(skippedIds.length, "dead letter")} skipped: replayed or dropped before.</p>}
      {rejected.length > 0 && (
        <>
          <p>
            <strong>The mapping still rejects these.</strong> Fix it in the playground or edit the records, then replay them again.
          </p>
          <ul>
            {rejected.slice(0, REJECTED_SHOWN).map((r) => (
              <li key={r.deadLetterId}>
                <code>{r.deadLetterId}</code>: {r.message}
              </li>
            ))}
          </ul>
        </>
      )}
      {rows.length > 0 && (
        <Scroll label="Rows of the dry run">
          <table class="list">
            <thead>
              <tr>
                {names.map((name) => (
                  <th scope="col" key={name}>
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((r) => (
                <tr key={r.deadLetterId}>
                  {r.row.map((cell) => (
                    <td class="text" key={cell.name}>
                      {cell.value}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </div>
  );
}

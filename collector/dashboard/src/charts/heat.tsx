// A real table: share of devices that differ, by reading and group, in five steps of lightness.
import type { Heat } from "../protocol";
import { percent } from "../text";

const step = (share: number) => (share < 0.02 ? 0 : share < 0.15 ? 1 : share < 0.4 ? 2 : share < 0.75 ? 3 : 4);

export function HeatMap({ heat }: { heat: Heat }) {
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label={heat.caption}>
      <table class="heat">
        <thead>
          <tr>
            <td />
            {heat.columns.map((column) => (
              <th key={column} scope="col">
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {heat.rows.map((row) => (
            <tr key={row.feature}>
              <th scope="row">{row.feature}</th>
              {row.cells.map((cell, i) => (
                <td key={heat.columns[i]} class={cell ? `heat${step(cell.share)}` : ""}>
                  {cell ? `${cell.alert ? "● " : ""}${percent(cell.share)}` : "–"}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

"use strict";
// The page is whole without this: it adds the choice of colours, and sorting and filtering of the table.
(() => {
  const root = document.documentElement, theme = document.getElementById("theme");
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const named = () => { theme.textContent = dark() ? "Light" : "Dark"; theme.setAttribute("aria-label", theme.textContent + " colours"); };
  theme.hidden = false;
  theme.onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; named(); };
  matchMedia("(prefers-color-scheme: dark)").onchange = named;
  named();

  const table = document.getElementById("samples"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows].map((row) => ({ row, cells: [...row.cells].map((cell) => cell.textContent) }));
  for (const each of rows) each.text = each.cells.join("\n").toLowerCase();
  const place = (name) => heads.findIndex((head) => head.textContent === name);
  const chosen = [["decision", place("decision")], ["right", place("right")]]
    .map(([id, column]) => [document.getElementById(id), column]).filter(([select]) => select);
  const words = document.getElementById("words"), count = document.getElementById("count"), form = document.getElementById("controls");

  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const left = rows.filter((each) => wanted.every((word) => each.text.includes(word))
      && chosen.every(([select, column]) => !select.value || each.cells[column] === select.value));
    body.replaceChildren(...left.map((each) => each.row));
    count.textContent = `${left.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
  };
  const sort = (column, down) => {
    const numbers = rows.every((each) => each.cells[column].trim() !== "" && Number.isFinite(Number(each.cells[column])));
    const compare = numbers ? (a, b) => a - b : new Intl.Collator("en", { numeric: true }).compare;
    rows.sort((a, b) => compare(a.cells[column], b.cells[column]) * (down ? -1 : 1));
    heads.forEach((head, n) => n === column ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort"));
    show();
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.onclick = () => sort(column, head.getAttribute("aria-sort") === "ascending");
    head.replaceChildren(button);
  });
  form.onsubmit = (event) => event.preventDefault();
  form.oninput = show;
  form.hidden = false;
  show();
})();

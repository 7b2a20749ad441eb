// Sorts tables, shows and hides charts and tables, changes the theme. Without it everything is there, too.
"use strict";

(function () {
  function number(text) {
    const value = parseFloat(text.replace(/,/g, ""));
    return Number.isNaN(value) ? null : value;
  }

  // Empty cells stay at the end whichever way a column is sorted.
  function compare(one, other, numeric, sign) {
    const a = numeric ? number(one) : one.trim();
    const b = numeric ? number(other) : other.trim();
    const noA = a === null || a === "";
    const noB = b === null || b === "";
    if (noA || noB) return Number(noA) - Number(noB);
    return sign * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
  }

  function sort(table, index, head) {
    const numeric = head.classList.contains("n");
    const before = head.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    const other = numeric ? "ascending" : "descending";
    const order = before === first ? other : first;
    table.querySelectorAll("th").forEach((cell) => cell.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const rows = Array.from(body.rows).map((row, place) => ({ row, place, text: row.cells[index].textContent }));
    rows.sort((a, b) => compare(a.text, b.text, numeric, sign) || a.place - b.place);
    body.append(...rows.map((entry) => entry.row));
  }

  document.querySelectorAll("table").forEach((table) => {
    if (table.tBodies[0].rows.length < 2) return;
    Array.from(table.tHead.rows[0].cells).forEach((head, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(table, index, head));
      head.replaceChildren(button);
    });
  });

  function toggle(id, act) {
    const button = document.getElementById(id);
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(pressed));
      act(pressed);
    });
  }

  toggle("charts", (on) => document.body.classList.toggle("off", !on));
  toggle("tables", (on) => document.querySelectorAll("details").forEach((part) => { part.open = on; }));
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  document.querySelector(".tools").hidden = false;
})();

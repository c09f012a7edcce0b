"use strict";
// The page is complete without this script. It sorts the table, switches layers, filters candidates and shows the position of the cursor.

for (const button of document.querySelectorAll(".sortable th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => Number(row.cells[head.cellIndex].dataset.value);
    body.append(...[...body.rows].sort((a, b) => (up ? value(a) - value(b) : value(b) - value(a))));
  });
}

for (const layers of document.querySelectorAll(".layers")) {
  layers.addEventListener("change", () => {
    for (const input of layers.querySelectorAll("input")) {
      for (const part of layers.parentElement.querySelectorAll(`[data-layer="${input.value}"]`)) {
        part.toggleAttribute("hidden", !input.checked);
      }
    }
  });
}

for (const least of document.querySelectorAll(".least")) {
  least.addEventListener("input", () => {
    for (const item of document.getElementById(least.dataset.run).querySelectorAll("[data-snr]")) {
      item.toggleAttribute("hidden", Number(item.dataset.snr) < Number(least.value));
    }
  });
}

for (const plot of document.querySelectorAll(".waterfall .plot")) {
  const position = plot.closest("figure").querySelector(".cursor");
  const ends = (name) => plot.dataset[name].split(",").map(Number);
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const [left, right] = ends("x");
    const [bottom, top] = ends("y");
    const seconds = left + ((right - left) * (event.clientX - box.left)) / box.width;
    const frequency = top - ((top - bottom) * (event.clientY - box.top)) / box.height;
    position.textContent = `${seconds.toFixed(2)} s, ${frequency.toFixed(3)} MHz`;
  });
  plot.addEventListener("pointerleave", () => { position.textContent = ""; });
}

const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const button = (text, label) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    if (label) made.setAttribute("aria-label", label);
    return made;
  };

  // tables: a click on a header sorts up, the next down, the third as it was; a sum stays at the end
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const key = (row, column, number) => {
    const cell = row.cells[column];
    return number ? parseFloat(cell.dataset.v) : cell.textContent.trim();
  };
  const sort = (table, column, way) => {
    const body = table.tBodies[0];
    const number = table.tHead.rows[0].cells[column].dataset.kind === "number";
    const rows = [...body.rows].sort((a, b) => {
      const sums = a.classList.contains("sum") - b.classList.contains("sum");
      if (sums || !way) return sums || a.dataset.at - b.dataset.at;
      const [x, y] = [key(a, column, number), key(b, column, number)];
      const missing = number ? Number.isNaN(x) - Number.isNaN(y) : (x === "–") - (y === "–");
      const order = number ? x - y : compare(x, y);
      return missing || (missing === 0 && way * order) || a.dataset.at - b.dataset.at;
    });
    body.append(...rows);
  };
  for (const table of all("table.sorts")) {
    [...table.tBodies[0].rows].forEach((row, i) => { row.dataset.at = i; });
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const click = button("");
      click.append(...header.childNodes);
      header.append(click);
      header.setAttribute("aria-sort", "none");
      click.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" }[header.getAttribute("aria-sort")];
        for (const other of headers) other.setAttribute("aria-sort", "none");
        header.setAttribute("aria-sort", next);
        sort(table, column, { none: 0, ascending: 1, descending: -1 }[next]);
      });
    });
    if (table.tBodies[0].rows.length < 15) continue;
    const search = document.createElement("input");
    search.type = "search";
    search.placeholder = "Filter rows";
    search.setAttribute("aria-label", "Filter the rows of the table below");
    search.addEventListener("input", () => {
      const words = search.value.toLowerCase().split(/\s+/);
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
    table.parentElement.before(search);
  }

  // what has one name is lit together, in every plot and table
  const highlight = (name) => {
    for (const one of all("[data-series]")) one.classList.toggle("on", one.dataset.series === name);
    for (const row of all("tbody tr")) row.classList.toggle("on", !!name && row.cells[0].dataset.series === name);
    for (const svg of all(".plot svg")) svg.classList.toggle("dim", !!name && all(".on", svg).length > 0);
  };
  for (const cell of all("tbody th[data-series]")) {
    cell.parentElement.addEventListener("pointerenter", () => highlight(cell.dataset.series));
    cell.parentElement.addEventListener("pointerleave", () => highlight(""));
  }

  // plots: the nearest point tells its values, by mouse, by touch, and by the arrow keys
  const tip = document.getElementById("tip");
  const REACH = 28; // pixels from a point within which it is meant
  const hide = () => {
    if (tip.hidden) return;
    tip.hidden = true;
    for (const spot of all(".spot.at")) spot.classList.remove("at");
    highlight("");
  };
  const show = (spot) => {
    const box = spot.getBoundingClientRect();
    tip.textContent = spot.dataset.tip;
    tip.hidden = false;
    highlight(spot.dataset.series || "");
    for (const other of all(".spot.at")) other.classList.remove("at");
    spot.classList.add("at");
    const { width, height } = tip.getBoundingClientRect();
    const room = document.documentElement.clientWidth - width - 8;
    tip.style.left = `${Math.max(8, Math.min(room, box.right + 10))}px`;
    const above = box.top - height - 8;
    tip.style.top = `${above > 0 ? above : box.bottom + 8}px`;
  };
  const distance = (spot, x, y) => {
    const box = spot.getBoundingClientRect();
    if (spot.tagName === "circle") return Math.hypot(x - box.x - box.width / 2, y - box.y - box.height / 2);
    return Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
  };
  for (const plot of all(".plot")) {
    const spots = all(".spot", plot);
    for (const spot of spots) {
      const title = spot.querySelector("title");
      spot.dataset.tip = title.textContent;
      title.remove();
    }
    if (!spots.length) continue;
    let current = -1;
    const near = (event) => {
      const far = spots.map((spot) => distance(spot, event.clientX, event.clientY));
      const least = Math.min(...far);
      current = least <= REACH ? far.indexOf(least) : -1;
      if (current < 0) hide(); else show(spots[current]);
    };
    plot.addEventListener("pointermove", near);
    plot.addEventListener("pointerdown", near);
    plot.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      current = (current + step + spots.length) % spots.length;
      show(spots[current]);
    });
  }
  addEventListener("scroll", hide, { passive: true });

  // commands are copied by a click
  for (const block of all(".code")) {
    const click = button("Copy");
    click.addEventListener("click", async () => {
      const code = block.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent.trimEnd());
        click.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        click.textContent = "Selected";
      }
      setTimeout(() => { click.textContent = "Copy"; }, 1500);
    });
    block.append(click);
  }

  // details: a link opens what it leads to, and paper shows everything
  const details = all("main > details");
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.closest("details");
    if (!folded) return;
    folded.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
  if (details.length) {
    const click = button("Open all");
    click.addEventListener("click", () => {
      const open = details.some((one) => !one.open);
      for (const one of details) one.open = open;
    });
    for (const one of details) {
      one.addEventListener("toggle", () => {
        click.textContent = details.some((other) => !other.open) ? "Open all" : "Close all";
      });
    }
    document.getElementById("details").append(click);
  }
  let folded = [];
  addEventListener("beforeprint", () => {
    hide();
    folded = details.filter((one) => !one.open);
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
})();

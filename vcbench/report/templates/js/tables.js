/* Tables: sorted by any column (the address keeps which), filtered by method, copied or saved as CSV. */
vc.tables = (() => {
  function key(row, j) {
    const cell = row.cells[j], value = cell.getAttribute("data-v") ?? cell.textContent;
    return value === "" || isNaN(value) ? value : Number(value);
  }
  /* numbers before words, what is absent last in both directions, equals in the order they stood in */
  function sort(table, column, up) {
    const body = table.tBodies[0], sign = up ? 1 : -1;
    const rank = (value) => (value === "" ? 2 : typeof value === "number" ? 0 : 1);
    Array.from(body.rows).map((row, i) => [key(row, column), i, row]).sort((a, b) => {
      const kinds = rank(a[0]) - rank(b[0]);
      if (kinds) return kinds;
      return sign * (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0) || a[1] - b[1];
    }).forEach((item) => body.append(item[2]));
    vc.all("thead th", table).forEach((th, j) => {
      if (j === column) th.setAttribute("aria-sort", up ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    });
  }
  /* as the address says, or as the table came */
  function follow(table) {
    const wanted = /^(\d+)([ad])$/.exec(vc.state.get(`sort.${table.id}`, ""));
    if (wanted && Number(wanted[1]) < table.tHead.rows[0].cells.length) sort(table, Number(wanted[1]), wanted[2] === "a");
    else if (table.querySelector("[aria-sort]")) {
      const rows = Array.from(table.tBodies[0].rows).sort((a, b) => a.dataset.i - b.dataset.i);
      table.tBodies[0].append(...rows);
      vc.all("[aria-sort]", table).forEach((th) => th.removeAttribute("aria-sort"));
    }
  }
  function text(table) {
    const shown = vc.all("tr", table).filter((tr) => !tr.hidden);
    const quoted = (cell) => `"${(cell.getAttribute("data-csv") ?? cell.innerText).trim().replace(/\s+/g, " ").replace(/"/g, '""')}"`;
    return shown.map((tr) => Array.from(tr.cells).map(quoted).join(",")).join("\r\n") + "\r\n";
  }
  function tools(table) {
    const copy = vc.el("button", { type: "button", text: "Copy CSV", "aria-label": `Copy as CSV: ${table.caption ? table.caption.textContent : ""}` });
    copy.addEventListener("click", () => vc.copy(text(table), copy));
    const save = vc.el("button", { type: "button", text: "Save CSV", onclick: () => vc.save(text(table), `${table.id.replace(/^t-/, "")}.csv`, "text/csv") });
    return vc.el("p", { class: "tabletools" }, copy, save);
  }
  /* make a table of the page work; a table drawn again calls it again */
  function start(table) {
    Array.from(table.tBodies[0].rows).forEach((row, i) => { row.dataset.i = i; });
    vc.all("thead th", table).forEach((th, j) => {
      if (th.querySelector("button")) return;
      const button = vc.el("button", { type: "button" }, ...Array.from(th.childNodes));
      th.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = th.getAttribute("aria-sort") !== "ascending";
        vc.state.set({ [`sort.${table.id}`]: `${j}${up ? "a" : "d"}` });
        follow(table);
        button.focus();
      });
    });
    const box = table.closest(".scroll") || table;
    if (!(box.nextElementSibling && box.nextElementSibling.classList.contains("tabletools"))) box.after(tools(table));
    follow(table);
  }
  /* rows whose method or condition is not among the shown ones are hidden */
  function filter(table, methods, conditions) {
    const heads = vc.all("thead th", table).map((th) => th.textContent.trim());
    const who = heads.findIndex((head) => head === "method" || head === "label"), where = heads.indexOf("condition");
    if (who < 0 && where < 0) return;
    for (const row of table.tBodies[0].rows) {
      const method = who < 0 ? null : row.cells[who].textContent.replace(/^[^\w]\s/, "");
      const place = where < 0 ? null : row.cells[where].getAttribute("data-v");
      row.hidden = (method !== null && methods.known.has(method) && !methods.shown.has(method))
        || (place !== null && conditions.known.has(place) && !conditions.shown.has(place));
    }
  }
  return { start, follow, filter, text, tools };
})();

vc.copy = (text, button) => {
  const done = () => { const was = button.textContent; button.textContent = "Copied"; setTimeout(() => { button.textContent = was; }, 1200); };
  const old = () => {
    const area = vc.el("textarea", {});
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    done();
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, old);
  else old();
};

vc.save = (text, name, type) => {
  const link = vc.el("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

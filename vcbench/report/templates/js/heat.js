/* Heat table: conditions down, methods across, the value and its Monte Carlo error written in a shaded cell. */
vc.views.heat = (chosen, cells) => {
  const q = chosen.measure, data = vc.data;
  const methods = chosen.methods.filter((m) => cells.some((cell) => cell.m === m));
  const conditions = vc.state.get("o", "worst") === "worst" ? vc.worst(cells, q, chosen.conditions) : chosen.conditions.filter((c) => cells.some((cell) => cell.c === c));
  const found = new Map(cells.map((cell) => [`${cell.c}/${cell.m}`, cell]));
  const size = (cell) => (q.log ? Math.log10(Math.max(cell.x, 1e-12)) : q.target === null ? cell.x : cell.x - q.target);
  const sizes = cells.map(size).sort((a, b) => a - b);
  const absolute = sizes.map(Math.abs).sort((a, b) => a - b), far = absolute[Math.floor(0.95 * (absolute.length - 1))] || 1;
  const low = sizes[0], span = sizes[sizes.length - 1] - low || 1;
  const shade = (td, cell) => {
    const d = size(cell), share = q.target !== null && !q.log ? Math.min(Math.abs(d) / far, 1) : (d - low) / span;
    const colour = q.target !== null && !q.log && d < 0 ? "var(--below)" : "var(--above)";
    td.style.backgroundColor = `color-mix(in srgb, ${colour} ${Math.round(8 + 47 * share)}%, transparent)`;
  };
  const table = vc.el("table", { id: "t-heat", class: "sortable heat" },
    vc.el("caption", {}, vc.el("span", { text: `${q.name}${q.whole ? "" : ` of ${chosen.parameter}`}${q.unit ? `, ${q.unit}` : ""}; the darker, the ${q.target === null || q.log ? "larger" : "farther from " + vc.number(q.target)}${cells.some((cell) => cell.off) ? "; ▲ off by more than 2 MCSE" : ""}` })),
    vc.el("thead", {}, vc.el("tr", {}, vc.el("th", { scope: "col", text: "condition" }), ...methods.map((m) => vc.el("th", { scope: "col", class: "n", text: data.methods[m].label })))));
  const body = vc.el("tbody");
  for (const c of conditions) {
    const row = vc.el("tr", {}, vc.el("th", { scope: "row", "data-v": data.conditions[c].id, "data-csv": data.conditions[c].label }, vc.el("button", { type: "button", class: "plain", text: data.conditions[c].label, onclick: () => vc.state.set({ s: data.conditions[c].id }) })));
    for (const m of methods) {
      const cell = found.get(`${c}/${m}`), td = vc.el("td", { class: "n", "data-v": cell ? cell.x : "", text: cell ? "" : "–" });
      if (cell) {
        const [value, error] = cell.t.split(/ ± | \(10/);
        td.append(value, q.e && error ? vc.el("small", { text: ` ± ${error.replace(/\s*%$/, "")}` }) : "", cell.off ? vc.el("span", { class: "m off", text: "▲" }) : "");
        td.setAttribute("data-tip", "");
        td.setAttribute("aria-label", vc.say(cell, q));
        td.setAttribute("data-csv", cell.t);
        shade(td, cell);
      }
      row.append(td);
    }
    body.append(row);
  }
  table.append(body);
  return [vc.el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Heat table" }, table)];
};

/* All that is shown, a line a cell, for sorting and for other programs. */
vc.views.values = (chosen, cells) => {
  const q = chosen.measure, data = vc.data, MOST = 1500;
  const heads = ["condition", ...data.factors, "method", `${q.name}${q.unit ? `, ${q.unit}` : ""}`, q.e ? "MCSE" : q.lo ? "10 to 90 %" : "", q.whole ? "fits" : "data sets", ""].filter((head, i, all) => head || i === all.length - 1);
  const body = vc.el("tbody");
  for (const cell of cells.slice(0, MOST)) {
    const condition = data.conditions[cell.c], number = (v, text) => vc.el("td", { class: "n", "data-v": v ?? "", "data-csv": v ?? "", text: text ?? vc.number(v) });
    const [value, error] = q.e ? cell.t.replace(/\s*%$/, "").split(" ± ") : [];
    body.append(vc.el("tr", {}, vc.el("th", { scope: "row", "data-v": condition.id, "data-csv": condition.label, text: condition.label }), ...condition.levels.map((level) => vc.el("td", { "data-v": level, text: level || "–" })),
      vc.el("td", { text: data.methods[cell.m].label }), number(cell.x, value), q.e ? number(cell.hi === null ? null : +((cell.hi - cell.x) / 2).toPrecision(4), error || "–") : q.lo ? number(cell.hi, `${vc.number(cell.lo, 3)} to ${vc.number(cell.hi, 3)}`) : "",
      number(cell.n), vc.el("td", { class: "off", text: cell.off ? "▲" : "" })));
  }
  const said = `${q.name}${q.whole ? "" : ` of ${chosen.parameter}`}: ${vc.plural(cells.length, "cell")}${cells.length > MOST ? `, the first ${MOST} of them here` : ""}`;
  const table = vc.el("table", { id: "t-values", class: "sortable" }, vc.el("caption", {}, vc.el("span", { text: said })),
    vc.el("thead", {}, vc.el("tr", {}, ...heads.map((head) => vc.el("th", { scope: "col", text: head || "▲" })))), body);
  return [vc.el("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Values" }, table)];
};

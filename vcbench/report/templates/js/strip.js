/* Failures: conditions down, methods across, how many fits are no answer; a press lists them with the command that
   makes one of them again. */
vc.strip = (() => {
  function draw(chosen) {
    const box = document.getElementById("live-failures"), data = vc.data, e = data.endings;
    if (!box) return;
    const methods = chosen.methods, total = new Map(), bad = new Map();
    e.c.forEach((c, i) => {
      const key = `${c}/${e.m[i]}`;
      if (e.status[i] === "SKIPPED") return;
      total.set(key, (total.get(key) || 0) + e.n[i]);
      if (e.status[i] !== "CONVERGED" && e.status[i] !== "AT_BOUNDARY") bad.set(key, (bad.get(key) || 0) + e.n[i]);
    });
    const open = vc.state.get("x", ""), sum = chosen.conditions.flatMap((c) => methods.map((m) => bad.get(`${c}/${m}`) || 0)).reduce((a, b) => a + b, 0);
    const all = chosen.conditions.flatMap((c) => methods.map((m) => total.get(`${c}/${m}`) || 0)).reduce((a, b) => a + b, 0);
    if (!sum) { vc.fill(box, vc.el("p", { class: "caption", text: `Missing results: none of ${vc.number(all)} fits.` })); return; }
    const table = vc.el("table", { id: "t-strip", class: "sortable strip" },
      vc.el("caption", {}, vc.el("span", { text: `Missing results: ${vc.number(sum)} of ${vc.number(all)} fits${all ? ` (${vc.percent(sum / all)})` : ""}. A cell: fits without an answer, · where all have one; press it for the list.` })),
      vc.el("thead", {}, vc.el("tr", {}, vc.el("th", { scope: "col", text: "condition" }), ...methods.map((m) => vc.el("th", { scope: "col", class: "n", text: data.methods[m].label })))));
    const body = vc.el("tbody");
    for (const c of chosen.conditions) {
      const row = vc.el("tr", {}, vc.el("th", { scope: "row", "data-v": data.conditions[c].id, text: data.conditions[c].label }));
      for (const m of methods) {
        const key = `${c}/${m}`, n = bad.get(key) || 0, of = total.get(key) || 0, id = `${data.conditions[c].id}/${data.methods[m].label}`;
        const td = vc.el("td", { class: "n", "data-v": of ? n : "", "data-csv": of ? n : "" });
        if (!of) td.textContent = "–";
        else if (!n) td.append(vc.el("span", { class: "none", text: "·", "data-tip": true, "aria-label": `${data.methods[m].label} · ${data.conditions[c].label}\nall ${of} fits have an answer` }));
        else td.append(vc.el("button", { type: "button", class: "bad", "data-key": `x-${id}`, "aria-expanded": String(open === id), "data-tip": true, "aria-label": `${data.methods[m].label} · ${data.conditions[c].label}\n${n} of ${of} fits are no answer`,
          text: `${"▮".repeat(Math.min(3, Math.ceil(3 * n / of)))} ${n}`, onclick: () => vc.state.set({ x: open === id ? null : id }) }));
        row.append(td);
      }
      body.append(row);
    }
    table.append(body);
    const focus = box.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    vc.fill(box, vc.el("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Missing results" }, table), list(open));
    vc.tables.start(table);
    const back = focus && box.querySelector(`[data-key="${CSS.escape(focus)}"]`);
    if (back) back.focus({ preventScroll: true });
  }
  function list(open) {
    const data = vc.data, at = open.indexOf("/");
    if (at < 0) return null;
    const c = data.conditions.findIndex((x) => x.id === open.slice(0, at)), m = data.methods.findIndex((x) => x.label === open.slice(at + 1));
    const mine = data.missing.filter((entry) => entry.c === c && entry.m === m);
    if (!mine.length) return null;
    const items = mine.slice(0, 40).map((entry) => {
      const row = /[^\w./-]/.test(entry.row) ? `'${entry.row}'` : entry.row, command = `vcbench study replay runs/${data.study} --row ${row}`, copy = vc.el("button", { type: "button", text: "Copy" });
      copy.addEventListener("click", () => vc.copy(command, copy));
      return vc.el("li", {}, vc.el("b", { text: `${entry.n} × ${entry.status}` }), ` ${entry.message || "no message"} `, vc.el("code", { text: command }), " ", copy);
    });
    return vc.el("div", { class: "missing", id: "missing-list" }, vc.el("h4", { text: `${data.methods[m].label}, ${data.conditions[c].label}` }), vc.el("ul", {}, ...items),
      mine.length > 40 ? vc.el("p", { class: "caption", text: `and ${mine.length - 40} more messages` }) : null);
  }
  return { draw };
})();

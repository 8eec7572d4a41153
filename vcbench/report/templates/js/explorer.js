/* The card that shows any measure in any of four views. */
vc.explorer = (() => {
  const VIEWS = [["lolly", "Lolly"], ["nested", "Nested loop"], ["heat", "Heat table"], ["values", "Values"]];
  function draw(chosen) {
    const box = document.getElementById("live-scenarios");
    if (!box) return;
    if (!chosen.measure) { box.replaceChildren(); return; }
    const cells = vc.cells(chosen), view = vc.state.get("v", "lolly");
    const focus = box.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const tabs = VIEWS.map(([name, said]) => vc.el("button", { type: "button", "data-key": `v-${name}`, "aria-pressed": String(name === view), text: said, onclick: () => vc.state.set({ v: name === "lolly" ? null : name }) }));
    const order = vc.state.get("o", "worst");
    const sorted = vc.el("button", { type: "button", "data-key": "o", text: order === "worst" ? "Worst first" : "In order", title: "Order of the conditions", onclick: () => vc.state.set({ o: order === "worst" ? "grid" : null }) });
    const title = vc.el("h3", { text: `${chosen.measure.name}${chosen.measure.whole ? "" : ` of ${chosen.parameter}`}` });
    const head = vc.el("div", { class: "tools" }, title, vc.el("span", { class: "tabs", role: "group", "aria-label": "View" }, ...tabs), view === "lolly" || view === "heat" ? sorted : null);
    const parts = cells.length ? (vc.views[view] || vc.views.lolly)(chosen, cells, vc.width(box)) : [vc.el("p", { class: "caption", text: "No cell has this measure under these filters." })];
    vc.fill(box, head, ...parts);
    vc.all("table.sortable", box).forEach(vc.tables.start);
    const back = focus && box.querySelector(`[data-key="${focus}"]`);
    if (back) back.focus({ preventScroll: true });
  }
  return { draw };
})();

/* the room for a picture in a card, which may be hidden yet */
vc.width = (box) => Math.max(280, box.parentElement.clientWidth - (matchMedia("(max-width:600px)").matches ? 22 : 38));

/* which condition a panel of one condition shows: the one looked at, else the first offered */
vc.focused = (offered) => {
  const id = vc.state.get("s"), wanted = offered.find((c) => vc.data.conditions[c].id === id);
  return wanted === undefined ? offered[0] : wanted;
};
vc.picker = (offered, now, key) => vc.filters.select("Condition", key || "s", offered.map((c) => [vc.data.conditions[c].id, vc.data.conditions[c].label]), vc.data.conditions[now].id);

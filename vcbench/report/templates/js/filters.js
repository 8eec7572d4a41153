/* The bar of filters: parameter, measure, methods, levels of factors. Each change is a step for Back. */
vc.filters = (() => {
  function select(label, key, options, value) {
    const box = vc.el("select", { "data-key": key, onchange: () => vc.state.set({ [key]: box.value }) });
    for (const [name, said] of options) box.append(vc.el("option", { value: name, text: said, selected: name === value }));
    return vc.el("label", {}, vc.el("span", { text: label }), box);
  }
  /* a menu of boxes to tick; all ticked is no filter. It stays open while it is used. */
  function menu(label, key, items) {
    const some = vc.state.list(key), ticked = (value) => !some || some.includes(value);
    const boxes = [];
    const change = () => {
      const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
      vc.state.set({ [key]: chosen.length && chosen.length < items.length ? chosen : null });
    };
    const rows = items.map(([value, ...said]) => {
      const box = vc.el("input", { type: "checkbox", value, onchange: change });
      box.checked = ticked(value);
      boxes.push(box);
      const only = vc.el("button", { type: "button", class: "only", text: "only", "aria-label": `only ${value}`, onclick: () => vc.state.set({ [key]: [value] }) });
      return vc.el("div", {}, vc.el("label", {}, box, ...said), only);
    });
    const n = items.filter(([value]) => ticked(value)).length;
    const all = vc.el("button", { type: "button", text: `All ${items.length}`, onclick: () => vc.state.set({ [key]: null }) });
    return vc.el("details", { class: "menu", "data-key": key },
      vc.el("summary", {}, `${label} `, vc.el("b", { text: n === items.length ? "all" : `${n} of ${items.length}` })),
      vc.el("div", { class: "drop" }, all, ...rows));
  }
  /* what is in hand when the bar is drawn again: the open menu and the focus */
  function draw(chosen) {
    const bar = document.getElementById("filters"), data = vc.data;
    if (!bar) return;
    const open = vc.all("details[open]", bar).map((d) => d.dataset.key);
    const active = bar.contains(document.activeElement) ? document.activeElement : null;
    const again = active && (active.dataset.key ? `[data-key="${CSS.escape(active.dataset.key)}"]` : active.value && `input[value="${CSS.escape(active.value)}"]`);
    const levels = (j) => {
      const found = [...new Set(data.conditions.filter((c) => !c.real && c.levels[j]).map((c) => c.levels[j]))];
      return found.every((v) => !isNaN(v)) ? found.sort((a, b) => a - b) : found;
    };
    const glyph = (m) => vc.el("i", { class: `glyph k${m.colour}`, text: m.glyph, "aria-hidden": "true" });
    vc.fill(bar,
      data.parameters.length > 1 && chosen.measure ? select("Parameter", "p", data.parameters.map((p) => [p, p]), chosen.parameter) : null,
      chosen.measure ? select("Measure", "q", chosen.having.map((m) => [m.key, m.unit ? `${m.name}, ${m.unit}` : m.name]), chosen.measure.key) : null,
      data.methods.length > 1 ? menu("Methods", "m", data.methods.map((m) => [m.label, glyph(m), vc.el("span", { text: m.label })])) : null,
      ...data.factors.map((factor, j) => (levels(j).length > 1 ? menu(factor, `f.${factor}`, levels(j).map((v) => [v, vc.el("span", { text: v })])) : null)),
      vc.el("button", { type: "button", class: "reset", text: "Reset", onclick: () => {
        const none = { p: null, q: null, m: null, s: null, c: null, d: null, v: null, o: null, t: null };
        data.factors.forEach((factor) => { none[`f.${factor}`] = null; });
        vc.state.set(none);
      } }));
    open.forEach((key) => { const d = bar.querySelector(`details[data-key="${CSS.escape(key)}"]`); if (d) d.open = true; });
    const back = again && bar.querySelector(again);
    if (back) back.focus({ preventScroll: true });
  }
  /* Escape or a press elsewhere closes a menu */
  function start() {
    const shut = (except) => vc.all("#filters details[open]").forEach((d) => { if (d !== except) d.open = false; });
    document.addEventListener("pointerdown", (event) => shut(event.target instanceof Element ? event.target.closest("#filters details") : null));
    document.addEventListener("keydown", (event) => {
      const inside = event.key === "Escape" && document.activeElement && document.activeElement.closest("#filters details[open]");
      if (inside) { inside.open = false; inside.querySelector("summary").focus(); }
    });
  }
  return { draw, start, select };
})();

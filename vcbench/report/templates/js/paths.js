/* Convergence paths: how far below the best log-likelihood after each iteration, both on log scales. */
vc.paths = (() => {
  const FLOOR = 1e-10;
  function draw(chosen) {
    const box = document.getElementById("live-convergence"), data = vc.data;
    if (!box || !data.paths.length) return;
    const methods = new Set(chosen.methods), offered = [...new Set(data.paths.map((entry) => entry.c))];
    const id = vc.state.get("d"), named = offered.find((c) => data.conditions[c].id === id), place = named === undefined ? vc.focused(offered) : named;
    const panels = data.paths.filter((entry) => entry.c === place).map((entry) => ({ ...entry, lines: entry.lines.filter((line) => methods.has(line.m)) })).filter((entry) => entry.lines.length);
    const k = vc.chart, width = vc.width(box), columns = Math.max(1, Math.min(panels.length, Math.floor(width / 330))), LEFT = 52, gap = 16, TALL = 230, HEAD = 24, FOOT = 34;
    const each = Math.min((width - (LEFT + gap) * columns + gap) / columns, 640), rows = Math.ceil(panels.length / columns) || 1;
    const svg = k.picture(width, rows * (HEAD + TALL + FOOT), "Convergence paths"), marks = [];
    panels.forEach((entry, i) => {
      const left = LEFT + (i % columns) * (each + LEFT + gap), top = Math.floor(i / columns) * (HEAD + TALL + FOOT) + HEAD;
      const longest = Math.max(2, ...entry.lines.map((line) => line.i[line.i.length - 1] + 1)), most = Math.max(1e-2, ...entry.lines.flatMap((line) => line.d));
      const at = k.scale(1, longest, left, left + each, true), up = k.scale(FLOOR, most, top + TALL, top, true);
      svg.append(k.text(left, top - 8, `${entry.criterion || "log-likelihood"}: below the best, ${vc.number(entry.best, 7)}`, { fill: k.INK, "font-weight": 600, "font-size": 12 }));
      for (const v of k.ticks(FLOOR, most, 7, true)) svg.append(k.line(left, up(v), left + each, up(v), { stroke: k.GRID }), k.text(left - 6, up(v) + 4, v <= FLOOR * 1.01 ? "≤10⁻¹⁰" : vc.number(v, 2), { "text-anchor": "end" }));
      for (const v of [0, ...k.ticks(1, longest, 6, true)]) if (v + 1 <= longest) svg.append(k.text(at(v + 1), top + TALL + 14, vc.number(v), { "text-anchor": "middle" }));
      svg.append(k.text(left + each / 2, top + TALL + 29, "iteration", { "text-anchor": "middle" }));
      entry.lines.forEach((line) => {
        const d = line.i.map((t, j) => `${j ? "L" : "M"}${at(t + 1).toFixed(1)},${up(Math.max(line.d[j], FLOOR)).toFixed(1)}`).join("");
        svg.append(vc.svg("path", { d, fill: "none", stroke: k.colour(line.m), "stroke-width": 1.7, "stroke-dasharray": data.methods[line.m].dash[1] ? data.methods[line.m].dash.join(",") : null }));
        const every = Math.max(1, Math.floor(line.i.length / 8));
        line.i.forEach((t, j) => {
          if (j % every && j !== line.i.length - 1) return;
          const mark = vc.svg("g", { class: "mark", "aria-label": `${data.methods[line.m].label}, iteration ${vc.number(t)}${j === line.i.length - 1 ? " (the last)" : ""}\n${line.d[j] > 0 ? `${vc.number(line.d[j], 3)} below the best` : "at the best"}` }, k.symbol(line.m, at(t + 1), up(Math.max(line.d[j], FLOOR)), { opacity: j === line.i.length - 1 ? 1 : 0.75 }));
          marks.push(mark);
          svg.append(mark);
        });
      });
    });
    vc.tips.rove(svg, marks);
    const drawn = [...new Set(panels.flatMap((entry) => entry.lines.map((line) => line.m)))].sort((a, b) => a - b);
    const legend = vc.el("p", { class: "legend" }, ...drawn.map((m) => vc.el("span", {}, vc.el("i", { class: `glyph k${data.methods[m].colour}`, text: data.methods[m].glyph, "aria-hidden": "true" }), data.methods[m].label)));
    const head = vc.el("div", { class: "tools" }, vc.el("h3", { text: `Paths on ${data.conditions[place].label}` }), vc.picker(offered, place, "d"));
    if (!panels.length) { vc.fill(box, head, vc.el("p", { class: "caption", text: "None of the methods shown climbs a likelihood here." })); return; }
    vc.fill(box, head, legend, ...k.framed(svg, `How far below the best log-likelihood each method is after each iteration, on replicate ${panels[0].replicate}; log scales. Deficits below 10⁻¹⁰ are drawn there.`, "paths"));
  }
  return { draw };
})();

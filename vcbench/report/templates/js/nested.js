/* Nested-loop plot: all conditions side by side, a step line a method, below it the levels of the factors, the last
   varying fastest (Rücker & Schwarzer 2014, doi:10.1186/1471-2288-14-129). */
vc.views.nested = (chosen, cells, width) => {
  const k = vc.chart, q = chosen.measure, data = vc.data;
  const rank = (level) => (level !== "" && !isNaN(level) ? Number(level) : level);
  const places = chosen.conditions.filter((c) => !data.conditions[c].real && cells.some((cell) => cell.c === c)).sort((a, b) => {
    for (let j = 0; j < data.factors.length; j++) {
      const x = rank(data.conditions[a].levels[j]), y = rank(data.conditions[b].levels[j]);
      if (x !== y) return x < y ? -1 : 1;
    }
    return a - b;
  });
  if (places.length < 2) return [vc.el("p", { class: "caption", text: "A nested-loop plot needs two simulated conditions or more; the filters leave fewer." })];
  const factors = data.factors.map((name, j) => ({ name, j })).filter((f) => new Set(places.map((c) => data.conditions[c].levels[f.j])).size > 1);
  const LEFT = Math.min(Math.max(46, ...factors.map((f) => f.name.length * 6.2 + 8)), width * 0.25), step = Math.max((width - LEFT - 8) / places.length, 9);
  const wide = LEFT + step * places.length + 8, TALL = 250, STRIP = 18;
  const svg = k.picture(wide, TALL + 12 + factors.length * STRIP + 6, `Nested-loop plot: ${q.name}`), marks = [];
  const [low, high] = k.limits(cells, q.target, q.log), at = k.scale(low, high, TALL, 8, q.log);
  for (const v of k.ticks(low, high, 6, q.log)) svg.append(k.line(LEFT, at(v), wide - 8, at(v), { stroke: k.GRID }), k.text(LEFT - 6, at(v) + 4, k.label(v, q.unit, q.log), { "text-anchor": "end" }));
  if (q.target !== null && !q.log) svg.append(k.line(LEFT, at(q.target), wide - 8, at(q.target), { "stroke-dasharray": "4,3" }));
  const found = new Map(cells.map((cell) => [`${cell.c}/${cell.m}`, cell]));
  chosen.methods.forEach((m) => {
    let path = "", last = null;
    places.forEach((c, i) => {
      const cell = found.get(`${c}/${m}`), x = LEFT + i * step;
      if (!cell) { last = null; return; }
      path += `${last === null ? "M" : "L"}${x.toFixed(1)},${at(cell.x).toFixed(1)}H${(x + step).toFixed(1)}`;
      last = cell;
      const mark = vc.svg("g", { "aria-label": vc.say(cell, q), class: "mark", "data-c": c, "data-m": m }, k.symbol(m, x + step / 2, at(cell.x)));
      mark.addEventListener("click", () => vc.state.set({ s: data.conditions[c].id }));
      marks.push(mark);
    });
    svg.append(vc.svg("path", { d: path, fill: "none", stroke: k.colour(m), "stroke-width": 1.5, "stroke-dasharray": data.methods[m].dash[1] ? data.methods[m].dash.join(",") : null }));
  });
  svg.append(...marks);
  factors.forEach((f, depth) => {
    const y = TALL + 14 + depth * STRIP, key = (i) => factors.slice(0, depth + 1).map((g) => data.conditions[places[i]].levels[g.j]).join("\n");
    svg.append(k.text(LEFT - 6, y + 13, f.name, { "text-anchor": "end" }));
    for (let from = 0, odd = 0; from < places.length; odd ^= 1) {
      let to = from;
      while (to + 1 < places.length && key(to + 1) === key(from)) to++;
      const x = LEFT + from * step, room = (to - from + 1) * step, level = data.conditions[places[from]].levels[f.j];
      svg.append(vc.svg("rect", { x: x + 0.5, y, width: room - 1, height: STRIP - 2, fill: odd ? k.GRID : k.BAND }));
      if (level.length * 6.4 < room) svg.append(k.text(x + room / 2, y + 12.5, level, { "text-anchor": "middle", fill: k.INK, "font-size": 10.5 }));
      from = to + 1;
    }
  });
  vc.tips.rove(svg, marks);
  const drawn = chosen.methods.filter((m) => cells.some((cell) => cell.m === m));
  const legend = vc.el("p", { class: "legend" }, ...drawn.map((m) => vc.el("span", {}, vc.el("i", { class: `glyph k${data.methods[m].colour}`, text: data.methods[m].glyph, "aria-hidden": "true" }), data.methods[m].label)));
  return [legend, ...k.framed(svg, `${q.name}${q.whole ? "" : ` of ${chosen.parameter}`}${q.unit ? `, ${q.unit}` : ""}: a line a method; the strips give the levels of ${factors.map((f) => f.name).join(", ")}, the last varying fastest.${cells.some((cell) => cell.x < low || cell.x > high) ? " Values beyond the scale are drawn at its edge." : ""}`, `nested-${q.key}`)];
};

/* Zip plot: the intervals of one condition by the centile of |z|, so that a perfect method begins to miss at the level
   (Morris, White & Crowther 2019). Those that miss are dashed, of another colour, and end in a cross. */
vc.zip = (() => {
  const HIT = "#0069a8", MISS = "#cf5000";
  function panel(entry, left, top, width, tall, limits, marks) {
    const k = vc.chart, at = k.scale(limits[0], limits[1], left, left + width), n = entry.lower.length, up = (i) => top + tall - ((i + 0.5) / n) * tall;
    const group = vc.svg("g"), misses = new Set(entry.miss), step = tall / n;
    for (const v of k.ticks(limits[0], limits[1], Math.max(2, Math.floor(width / 70)))) group.append(k.text(at(v), top + tall + 14, vc.number(v, 3), { "text-anchor": "middle" }));
    for (let i = 0; i < n; i++) {
      const low = entry.lower[i] ?? limits[0], high = entry.upper[i] ?? limits[1], y = up(i), miss = misses.has(i);
      const side = high < entry.truth ? high : low;
      const said = `centile ${vc.number(100 * (i + 0.5) / n, 3)} of |z| · [${vc.number(entry.lower[i])}, ${vc.number(entry.upper[i])}]\n${miss ? "misses" : "holds"} the truth ${vc.number(entry.truth)}`;
      const mark = vc.svg("g", { class: "mark", "aria-label": `${vc.data.methods[entry.m].label} · ${said}` },
        vc.svg("rect", { x: left, y: y - step / 2, width, height: Math.max(step, 1), fill: "transparent" }),
        k.line(at(low), y, at(high), y, { stroke: miss ? MISS : HIT, "stroke-width": 1.3, "stroke-dasharray": miss ? "5,2" : null }));
      if (miss) mark.append(vc.svg("path", { d: `M${at(side) - 2.5},${y - 2.5}l5,5m0,-5l-5,5`, stroke: MISS, "stroke-width": 1.3, fill: "none" }));
      marks.push(mark);
      group.append(mark);
    }
    const x = at(entry.truth), nominal = top + tall * (1 - vc.data.level);
    group.append(k.line(x, top, x, top + tall, { stroke: k.INK, "stroke-width": 1.2, "pointer-events": "none" }), k.line(left, nominal, left + width, nominal, { "stroke-dasharray": "3,3", "pointer-events": "none" }));
    return group;
  }
  /* limits that hold the truth and nine tenths of most methods' ends */
  function limits(entries) {
    const ends = (list, share) => { const v = list.filter((x) => x !== null).sort((a, b) => a - b); return v.length ? v[Math.round(share * (v.length - 1))] : null; };
    const middle = (list) => ends(list, 0.5), truth = entries[0].truth;
    const low = Math.min(middle(entries.map((e) => ends(e.lower, 0.04))) ?? truth, truth), high = Math.max(middle(entries.map((e) => ends(e.upper, 0.96))) ?? truth, truth);
    const room = 0.06 * (high - low) || 1;
    return [low - room, high + room];
  }
  function draw(chosen) {
    const box = document.getElementById("live-intervals");
    if (!box) return;
    const k = vc.chart, data = vc.data, conditions = new Set(chosen.conditions), methods = new Set(chosen.methods);
    const mine = data.zips.filter((z) => z.p === chosen.p && conditions.has(z.c) && methods.has(z.m));
    if (!mine.length) { vc.fill(box, vc.el("p", { class: "caption", text: data.zips.length ? "No interval is left by these filters." : "" })); return; }
    const share = (z) => 1 - z.miss.length / z.lower.length;
    const offered = [...new Set(mine.map((z) => z.c))];
    const worst = mine.slice().sort((a, b) => Math.abs(share(b) - data.level) - Math.abs(share(a) - data.level))[0].c;
    const place = data.conditions.some((c, i) => c.id === vc.state.get("s") && offered.includes(i)) ? vc.focused(offered) : worst;
    const entries = mine.filter((z) => z.c === place), width = vc.width(box), most = Math.max(1, Math.floor(width / 215)), columns = Math.ceil(entries.length / Math.ceil(entries.length / most));
    const gap = 22, LEFT = 34, each = Math.min((width - LEFT - gap * (columns - 1) - 6) / columns, 420), TALL = 210, HEAD = 40, FOOT = 26, rows = Math.ceil(entries.length / columns);
    const svg = k.picture(width, rows * (HEAD + TALL + FOOT), "Zip plot"), marks = [], range = limits(entries);
    const covered = data.measures.find((m) => m.key === "coverage");
    entries.forEach((entry, i) => {
      const left = LEFT + (i % columns) * (each + gap), top = Math.floor(i / columns) * (HEAD + TALL + FOOT) + HEAD;
      svg.append(k.name(entry.m, left, top - 22, each));
      const j = covered ? covered.c.findIndex((c, at) => c === entry.c && covered.p[at] === entry.p && covered.m[at] === entry.m) : -1;
      svg.append(k.text(left, top - 7, j < 0 ? "" : `covers ${covered.t[j]}${covered.off[j] ? " ▲" : ""}`, { "font-size": 11 }));
      if (i % columns === 0) for (const c of [0, 25, 50, 75, 100 * data.level]) svg.append(k.text(left - 6, top + TALL * (1 - c / 100) + 4, vc.number(c), { "text-anchor": "end" }));
      svg.append(panel(entry, left, top, each, TALL, range, marks));
    });
    vc.tips.rove(svg, marks);
    const lines = Math.max(...entries.map((e) => e.lower.length)), n = Math.max(...entries.map((e) => e.n));
    vc.fill(box, vc.el("div", { class: "tools" }, vc.el("h3", { text: `Zip plot of ${chosen.parameter}` }), vc.picker(offered, place)),
      ...k.framed(svg, `${vc.number(100 * data.level)} % intervals of ${chosen.parameter}, ${data.conditions[place].label}, by the centile of |z| = |estimate − truth|/SE${n > lines ? ` (${lines} order statistics of ${n})` : ""}. Solid: holds the truth (upright line). Dashed with a cross: misses it; a perfect method begins to miss at the level across. Lines that reach an edge go on.`, "zip"));
  }
  return { draw };
})();

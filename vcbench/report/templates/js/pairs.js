/* Bland–Altman plots of each method against the reference, from groups of replicates. */
vc.pairs = (() => {
  function draw(chosen) {
    const box = document.getElementById("live-pairwise"), data = vc.data;
    if (!box) return;
    const reference = data.pairs.reference, methods = new Set(chosen.methods), conditions = new Set(chosen.conditions);
    const mine = data.pairs.cells.filter((e) => e.p === chosen.p && conditions.has(e.c) && methods.has(e.m));
    if (!mine.length) { vc.fill(box, vc.el("p", { class: "caption", text: data.pairs.cells.length ? "No pair is left by these filters." : "" })); return; }
    const k = vc.chart, offered = [...new Set(mine.map((e) => e.c))], place = vc.focused(offered);
    const entries = mine.filter((e) => e.c === place), named = data.methods[reference].label;
    const width = vc.width(box), most = Math.max(1, Math.floor(width / 240)), columns = Math.ceil(entries.length / Math.ceil(entries.length / most)), gap = 20, LEFT = 58, each = Math.min((width - (LEFT + gap) * columns + gap) / columns, 420);
    const TALL = 150, HEAD = 40, FOOT = 28, rows = Math.ceil(entries.length / columns), svg = k.picture(width, rows * (HEAD + TALL + FOOT), "Bland–Altman plots"), marks = [];
    const all = entries.flatMap((e) => [...e.x, ...e.far.map((f) => f[1])]), x0 = Math.min(...all), x1 = Math.max(...all), pad = 0.05 * (x1 - x0) || 1;
    entries.forEach((e, i) => {
      const left = LEFT + (i % columns) * (each + LEFT + gap), top = Math.floor(i / columns) * (HEAD + TALL + FOOT) + HEAD;
      const limits = [e.mean - 1.96 * e.sd, e.mean + 1.96 * e.sd], ys = [...e.low, ...e.high, ...limits, 0].filter((v) => v !== null);
      const low = Math.min(...ys), high = Math.max(...ys), room = 0.06 * (high - low) || 1e-12;
      const at = k.scale(x0 - pad, x1 + pad, left, left + each), up = k.scale(low - room, high + room, top + TALL, top);
      svg.append(k.name(e.m, left, top - 22, each), k.text(left, top - 7, `mean difference ${e.t}`, {}));
      for (const v of k.ticks(low, high, 4)) svg.append(k.line(left, up(v), left + each, up(v), { stroke: k.GRID }), k.text(left - 5, up(v) + 4, vc.number(v, 2), { "text-anchor": "end" }));
      for (const v of k.ticks(x0, x1, Math.max(2, Math.floor(each / 70)))) svg.append(k.text(at(v), top + TALL + 14, vc.number(v, 3), { "text-anchor": "middle" }));
      svg.append(k.line(left, up(0), left + each, up(0), { stroke: k.INK }), k.line(left, up(e.mean), left + each, up(e.mean), { stroke: k.colour(e.m), "stroke-width": 1.5 }));
      for (const v of limits) svg.append(k.line(left, up(v), left + each, up(v), { stroke: k.colour(e.m), "stroke-dasharray": "4,3" }));
      const add = (mark, said) => { mark.setAttribute("aria-label", said); mark.setAttribute("class", "mark"); marks.push(mark); svg.append(mark); };
      e.x.forEach((x, g) => add(vc.svg("g", {}, k.line(at(x), up(e.low[g]), at(x), up(e.high[g]), { stroke: k.colour(e.m), "stroke-width": 1.2 }), k.symbol(e.m, at(x), up(e.d[g]))),
        `${data.methods[e.m].label} − ${named}, group ${g + 1} of ${e.x.length} by size (about ${vc.number(x)})\nmedian difference ${vc.number(e.d[g], 3)}, ${vc.number(e.low[g], 3)} to ${vc.number(e.high[g], 3)}`));
      e.far.forEach(([replicate, x, d]) => add(vc.svg("path", { d: "M0,-4.5L4,0L0,4.5L-4,0z", transform: `translate(${at(x)},${up(d)})`, fill: "none", "pointer-events": "all", stroke: k.INK }),
        `${data.methods[e.m].label} − ${named} on replicate ${replicate}: ${vc.number(d, 3)} at ${vc.number(x)}\nagain: vcbench study replay runs/${data.study} --row ${data.conditions[place].id}/${replicate}/${data.methods[e.m].label}`));
    });
    vc.tips.rove(svg, marks);
    vc.fill(box, vc.el("div", { class: "tools" }, vc.el("h3", { text: `Differences from ${named}, ${chosen.parameter}` }), vc.picker(offered, place)),
      ...k.framed(svg, `Each method's estimate of ${chosen.parameter} less that of ${named} on the same data, against their mean (Bland–Altman), ${data.conditions[place].label}. Symbols: medians of ${Math.max(...entries.map((e) => e.x.length))} groups of data sets by size, bars their range; line: mean difference; dashed: mean ± 1.96 SD; open diamonds: the farthest. Each panel has its own scale.`, "pairs"));
  }
  return { draw };
})();

/* Lolly plot: a column a method, a row a condition; stem from the target to the value, brackets at two Monte Carlo
   errors to either side (Morris, White & Crowther 2019, doi:10.1002/sim.8086). */
vc.views.lolly = (chosen, cells, width) => {
  const k = vc.chart, q = chosen.measure, data = vc.data, STEP = 20;
  const order = vc.state.get("o", "worst") === "worst" ? vc.worst(cells, q, chosen.conditions) : chosen.conditions.filter((c) => cells.some((cell) => cell.c === c));
  const methods = chosen.methods.filter((m) => cells.some((cell) => cell.m === m));
  const said = (c) => { const full = data.conditions[c].label, most = Math.floor(room / 6) - 1; return full.length > most ? `${full.slice(0, most - 1)}…` : full; };
  const longest = Math.max(...order.map((c) => data.conditions[c].label.length));
  const room = Math.min(longest * 6.2 + 14, width * (width < 500 ? 0.42 : 0.3));
  const most = Math.max(1, Math.floor((width - room) / 118)), bands = Math.ceil(methods.length / most);
  const columns = Math.ceil(methods.length / bands), each = Math.min((width - room) / columns, 330), tall = order.length * STEP, HEAD = 26, FOOT = 34;
  const [low, high] = k.limits(cells, q.target, q.log), at = k.scale(low, high, 8, each - 20, q.log);
  const svg = k.picture(width, bands * (HEAD + tall + FOOT), `Lolly plot: ${q.name}`), marks = [];
  const found = new Map(cells.map((cell) => [`${cell.c}/${cell.m}`, cell])), focus = vc.state.get("s");
  for (let band = 0; band < bands; band++) {
    const top = band * (HEAD + tall + FOOT) + HEAD, here = methods.slice(band * columns, (band + 1) * columns);
    order.forEach((c, i) => {
      const y = top + (i + 0.5) * STEP, looked = data.conditions[c].id === focus;
      if (looked) svg.append(vc.svg("rect", { x: 0, y: top + i * STEP, width: room + here.length * each, height: STEP, fill: k.BAND }));
      const label = k.text(0, y + 4, said(c), { fill: k.INK, "font-weight": looked ? 700 : 400 });
      label.append(vc.svg("title", { text: data.conditions[c].label }));
      svg.append(label, k.line(room, y, room + here.length * each - 8, y, { stroke: k.GRID, "stroke-dasharray": "1,3" }));
    });
    here.forEach((m, j) => {
      const left = room + j * each;
      svg.append(k.name(m, left + 4, top - 9, each - 8));
      const zero = q.target === null || q.log ? null : left + at(q.target);
      for (const v of k.ticks(low, high, Math.max(3, Math.floor(each / 50)), q.log)) {
        svg.append(k.line(left + at(v), top, left + at(v), top + tall, { stroke: k.GRID }), k.text(left + at(v), top + tall + 14, k.label(v, q.unit, q.log), { "text-anchor": "middle" }));
      }
      if (j) svg.append(k.line(left - 3, top - 20, left - 3, top + tall, { stroke: k.GRID, "stroke-width": 1.5 }));
      if (zero !== null) svg.append(k.line(zero, top, zero, top + tall, {}));
      order.forEach((c, i) => {
        const cell = found.get(`${c}/${m}`);
        if (!cell) return;
        const y = top + (i + 0.5) * STEP, x = left + at(cell.x), colour = k.colour(m);
        const mark = vc.svg("g", { "aria-label": vc.say(cell, q), class: "mark", "data-c": c, "data-m": m });
        mark.append(vc.svg("rect", { x: left, y: y - STEP / 2, width: each - 6, height: STEP, fill: "transparent" }));
        if (zero !== null) mark.append(k.line(zero, y, x, y, { stroke: colour, "stroke-width": 1.4 }));
        if (cell.lo !== null && cell.x >= low && cell.x <= high) for (const [end, sign] of [[cell.lo, "("], [cell.hi, ")"]]) mark.append(k.text(left + at(end), y + 4, sign, { "text-anchor": "middle", fill: colour, "font-size": 12 }));
        mark.append(k.symbol(m, x, y));
        const beyond = cell.x < low || cell.x > high;
        if (beyond) mark.append(k.text(cell.x < low ? x + 8 : x - 8, y + 4, q.log ? k.label(cell.x, q.unit, true) : vc.number(cell.x, 3), { "text-anchor": cell.x < low ? "start" : "end", fill: k.INK, "font-size": 10.5, class: "halo" }));
        else if (cell.off) mark.append(k.text(Math.min(left + at(Math.max(cell.x, cell.hi ?? cell.x)) + 6, left + each - 16), y + 3.5, "▲", { fill: k.FLAG, "font-size": 9 }));
        mark.addEventListener("click", () => vc.state.set({ s: data.conditions[c].id }));
        marks.push(mark);
        svg.append(mark);
      });
    });
    svg.append(k.text(room, top + tall + 29, q.unit ? `${q.name}, ${q.unit}` : q.name));
  }
  vc.tips.rove(svg, marks);
  const target = q.target === null || q.log ? "" : ` Stems start at ${vc.number(q.target)}${q.unit === "%" ? " %" : ""}.`;
  const wild = cells.some((cell) => cell.x < low || cell.x > high) ? " Values beyond the scale stand at its edge, written out." : "";
  const ends = q.e ? " Brackets: ± 2 Monte Carlo errors." : q.lo ? " Brackets: 10th and 90th percentile." : "";
  return k.framed(svg, `${q.name}${q.whole ? "" : ` of ${chosen.parameter}`}, a column a method, a row a condition.${target}${ends}${wild}${cells.some((cell) => cell.off) ? " ▲ off by more than 2 MCSE." : ""}${data.zips.length || data.pairs.cells.length ? " A press on a row shows its data sets below." : ""}`, `lolly-${q.key}`);
};

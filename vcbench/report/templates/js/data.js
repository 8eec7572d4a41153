/* The study's aggregates: gzipped JSON in base64 in the page itself (vcbench.report.explore says what is in it). */
vc.load = async () => {
  const place = document.getElementById("data");
  if (!place || typeof DecompressionStream === "undefined") return null;
  const bytes = Uint8Array.from(atob(place.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

/* what is chosen: the measure, the parameter, and the places of the methods and conditions that are shown */
vc.chosen = () => {
  const data = vc.data, name = vc.state.get("p", data.parameters[0]);
  const p = Math.max(data.parameters.indexOf(name), 0);
  const having = data.measures.filter((m) => m.whole || m.p.includes(p));
  const measure = having.find((m) => m.key === vc.state.get("q")) || having[0] || null;
  const some = vc.state.list("m");
  let methods = data.methods.map((_, i) => i).filter((i) => !some || some.includes(data.methods[i].label));
  if (!methods.length) methods = data.methods.map((_, i) => i);
  let conditions = data.conditions.map((_, i) => i);
  data.factors.forEach((factor, j) => {
    const levels = vc.state.list(`f.${factor}`);
    if (levels) conditions = conditions.filter((i) => data.conditions[i].real || levels.includes(data.conditions[i].levels[j]));
  });
  return { p, parameter: data.parameters[p], measure, having, methods, conditions };
};

/* the cells of the chosen measure: { c, m, n, x, e, lo, hi, t, off }, lo and hi two Monte Carlo errors off */
vc.cells = (chosen) => {
  const q = chosen.measure, out = [];
  if (!q) return out;
  const methods = new Set(chosen.methods), conditions = new Set(chosen.conditions);
  for (let i = 0; i < q.x.length; i++) {
    if (q.x[i] === null || !methods.has(q.m[i]) || !conditions.has(q.c[i]) || !(q.whole || q.p[i] === chosen.p)) continue;
    const e = q.e ? q.e[i] : null;
    out.push({
      c: q.c[i], m: q.m[i], n: q.n[i], x: q.x[i], t: q.t[i], off: q.off[i] === 1,
      lo: q.lo ? q.lo[i] : e === null ? null : q.x[i] - 2 * e, hi: q.hi ? q.hi[i] : e === null ? null : q.x[i] + 2 * e,
    });
  }
  return out;
};

/* what is said of a cell when it is pointed at */
vc.say = (cell, q) => [
  `${vc.data.methods[cell.m].label} · ${vc.data.conditions[cell.c].label}`,
  `${q.name}: ${cell.t}`,
  `${q.whole ? vc.plural(cell.n, "fit") : vc.plural(cell.n, "data set")}${cell.off ? " · ▲ off by more than 2 MCSE" : ""}`,
].join("\n");

/* places of conditions, the one that is farthest from the target (else the largest) first */
vc.worst = (cells, q, conditions) => {
  const far = new Map();
  for (const cell of cells) {
    const size = q.target === null ? cell.x : Math.abs(cell.x - q.target);
    far.set(cell.c, Math.max(far.get(cell.c) ?? -Infinity, size));
  }
  return conditions.filter((c) => far.has(c)).sort((a, b) => far.get(b) - far.get(a) || a - b);
};

/* Put together: what is drawn when, links within the page, and the mark that all is there. */
(async () => {
  const root = document.documentElement;
  root.classList.add("scripted");
  vc.theme.start();
  vc.tips.start();
  vc.data = await vc.load();
  root.classList.toggle("filtered", Boolean(vc.data));
  vc.all("details.still").forEach((still) => { still.open = !vc.data; });
  vc.all("select[data-pick]").forEach((box) => box.addEventListener("change", () => {
    vc.state.set(box.dataset.pick === "p" ? { p: box.selectedOptions[0].textContent } : { [box.dataset.pick]: box.value });
  }));
  vc.all("table.sortable").forEach(vc.tables.start);
  vc.all("button[data-copy]").forEach((button) => button.addEventListener("click", () => vc.copy(button.dataset.copy, button)));
  vc.all("details.still").forEach((still) => still.addEventListener("toggle", () => {
    if (still.open && !still.dataset.live) { still.dataset.live = "1"; vc.all(".chart svg", still).forEach(vc.tips.adopt); }
  }));
  vc.all("figure.chart svg").forEach((svg) => { if (!svg.closest("details.still:not([open])")) vc.tips.adopt(svg); });

  const whole = document.getElementById("whole");
  if (whole) whole.addEventListener("click", () => {
    const now = whole.closest(".verdicts").classList.toggle("whole");
    whole.setAttribute("aria-expanded", String(now));
    whole.textContent = now ? "Shorter" : "Whole sentences";
  });

  /* still pictures of one parameter, or of one condition's paths */
  function stills() {
    const place = document.getElementById("cards"), names = place ? JSON.parse(place.textContent).parameters : [];
    const p = String(Math.max(names.indexOf(vc.state.get("p", names[0])), 0)), d = vc.state.get("d");
    vc.all("figure[data-p]").forEach((figure) => { figure.hidden = figure.dataset.p !== p; });
    const traced = vc.all("figure[data-d]"), first = traced.length ? traced[0].dataset.d : null, wanted = traced.some((figure) => figure.dataset.d === d) ? d : first;
    traced.forEach((figure) => { figure.hidden = figure.dataset.d !== wanted; });
    vc.all("select[data-pick=d]").forEach((box) => { box.value = wanted; });
  }
  const own = new Set(["t-scorecard", "t-heat", "t-values", "t-strip"]);
  function draw() {
    stills();
    const chosen = vc.data ? vc.chosen() : null;
    vc.scorecard.draw(chosen);
    if (chosen) {
      vc.filters.draw(chosen);
      for (const part of [vc.explorer, vc.zip, vc.pairs, vc.paths, vc.strip]) part.draw(chosen);
      const labels = vc.data.methods.map((m) => m.label), ids = vc.data.conditions.map((c) => c.id);
      const methods = { known: new Set(labels), shown: new Set(chosen.methods.map((m) => labels[m])) }, conditions = { known: new Set(ids), shown: new Set(chosen.conditions.map((c) => ids[c])) };
      vc.all("table.sortable").forEach((table) => { if (!own.has(table.id)) vc.tables.filter(table, methods, conditions); });
      const count = document.getElementById("shown");
      const some = chosen.conditions.length < ids.length || chosen.methods.length < labels.length;
      if (count) count.textContent = !some ? "" : `${vc.plural(chosen.conditions.length, "condition")} × ${vc.plural(chosen.methods.length, "method")}`;
    }
    vc.all("table.sortable").forEach((table) => { if (!own.has(table.id)) vc.tables.follow(table); });
  }
  function go(id, behavior) {
    const target = id && document.getElementById(id);
    if (!target) return;
    for (let box = target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    target.scrollIntoView({ behavior: behavior || "auto" });
  }
  /* a link within the page keeps the filters; evidence of a verdict opens in the explorer */
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest('a[href^="#"]') : null;
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const id = link.getAttribute("href").slice(1), seen = { bias: ["relative_bias", "bias"], errors: ["model_se_error"], coverage: ["coverage"], rejection: ["rejection"] }[id];
    const key = vc.data && seen && seen.find((name) => vc.data.measures.some((m) => m.key === name));
    vc.state.set(key ? { q: key, t: "scenarios" } : { t: id });
    go(key ? "scenarios" : id);
  });
  let last = location.hash;
  vc.state.follow(() => { last = location.hash; draw(); });
  addEventListener("hashchange", () => { if (location.hash !== last) { last = location.hash; draw(); } });
  addEventListener("popstate", () => go(vc.state.get("t")));
  /* on paper the still pictures stand for the live ones: all of them */
  let folded = [];
  addEventListener("beforeprint", () => { folded = vc.all("details.still:not([open])"); folded.forEach((still) => { still.open = true; }); });
  addEventListener("afterprint", () => { folded.forEach((still) => { still.open = false; }); folded = []; });
  let wide = innerWidth;
  addEventListener("resize", vc.later(() => { if (innerWidth !== wide) { wide = innerWidth; draw(); } }, 120));
  vc.filters.start();
  draw();
  go(vc.state.get("t"), "instant");
  root.dataset.ready = "yes";
  performance.mark("interactive");
})();

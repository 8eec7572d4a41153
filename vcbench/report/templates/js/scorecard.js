/* The scorecard follows the parameter, the condition and the methods. */
vc.scorecard = (() => {
  let cards = null;
  function draw(chosen) {
    const place = document.getElementById("cards"), table = document.getElementById("t-scorecard");
    if (!place || !table) return;
    cards = cards || JSON.parse(place.textContent);
    const name = vc.state.get("p", cards.parameters[0]), p = Math.max(cards.parameters.indexOf(name), 0);
    const alone = chosen && chosen.conditions.length === 1 ? vc.data.conditions[chosen.conditions[0]].id : null;
    const wanted = vc.state.get("c", alone || cards.first), c = `${p}/${wanted}` in cards.tables ? wanted : cards.first, card = cards.tables[`${p}/${c}`];
    vc.all("select[data-pick=p]").forEach((s) => { s.value = String(p); });
    vc.all("select[data-pick=c]").forEach((s) => { s.value = c; });
    table.caption.querySelector("span").textContent = card.caption;
    const section = table.closest("section");
    let note = section.querySelector(".scroll ~ p.note:not(.of-all)");
    if (!note) { note = vc.el("p", { class: "note" }); section.querySelector(".of-all").before(note); }
    note.textContent = card.note;
    note.hidden = !card.note;
    const shown = chosen ? new Set(chosen.methods.map((m) => vc.data.methods[m].label)) : null;
    const cells = (row) => row.map(([said, value, flag], j) => vc.el(j ? "td" : "th", { class: j ? "n" : null, scope: j ? null : "row", "data-v": value === null ? null : value, text: said },
      flag ? vc.el("span", { class: `m ${flag}`, title: flag === "off" ? "off by more than 2 MCSE" : "failed", text: flag === "off" ? "▲" : "■" }) : null));
    table.tHead.rows[0].replaceChildren(...card.columns.map((head, j) => vc.el("th", { scope: "col", class: j ? "n" : null, text: head })));
    table.tBodies[0].replaceChildren(...card.rows.filter((row) => !shown || shown.has(row[0][0])).map((row) => vc.el("tr", {}, ...cells(row))));
    vc.tables.start(table);
  }
  return { draw };
})();

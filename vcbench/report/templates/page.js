"use strict";
(function () {
  var root = document.documentElement, doc = document;
  root.classList.add("scripted");
  function all(selector, base) { return Array.prototype.slice.call((base || doc).querySelectorAll(selector)); }
  function keep(name, value) { try { if (value === undefined) return localStorage.getItem(name); localStorage.setItem(name, value); } catch (e) { return null; } }

  /* state lives in the fragment, so that a link opens the same view: #p=1&c=all&theme=dark&s=bias */
  function read() {
    var out = {}, text = location.hash.slice(1);
    if (text.indexOf("=") < 0) return out;
    text.split("&").forEach(function (part) { var i = part.indexOf("="); out[part.slice(0, i)] = decodeURIComponent(part.slice(i + 1)); });
    return out;
  }
  function write(change) {
    var state = read(), key;
    for (key in change) state[key] = change[key];
    var text = Object.keys(state).map(function (k) { return k + "=" + encodeURIComponent(state[k]); }).join("&");
    try { history.replaceState(null, "", "#" + text); } catch (e) { /* some viewers forbid it */ }
  }

  /* light, dark or the system's */
  var toggle = doc.getElementById("theme");
  function theme(name) {
    if (name === "light" || name === "dark") root.setAttribute("data-theme", name); else { name = "auto"; root.removeAttribute("data-theme"); }
    if (toggle) { toggle.textContent = { auto: "◐ auto", light: "○ light", dark: "● dark" }[name]; toggle.value = name; }
  }
  if (toggle) toggle.addEventListener("click", function () {
    var next = { auto: "light", light: "dark", dark: "auto" }[toggle.value || "auto"];
    theme(next); keep("vcbench-theme", next);
  });

  /* the scorecard and the per-parameter pictures follow two selectors */
  var data = doc.getElementById("cards"), cards = data ? JSON.parse(data.textContent) : null;
  function fill() {
    if (!cards) return;
    var table = doc.getElementById("t-scorecard"), state = read();
    var p = state.p || "0", c = state.c || cards.first, card = cards.tables[p + "/" + c];
    if (!table || !card) return;
    table.querySelector("caption span").textContent = card.caption;
    all("thead th", table).forEach(function (th, j) {
      th.removeAttribute("aria-sort");
      (th.querySelector("button") || th).textContent = card.columns[j];
    });
    var body = table.tBodies[0];
    body.textContent = "";
    card.rows.forEach(function (row) {
      var tr = doc.createElement("tr");
      row.forEach(function (cell, j) {
        var td = doc.createElement(j ? "td" : "th");
        if (j) td.className = "n"; else td.scope = "row";
        td.textContent = cell[0];
        if (cell[1] !== null) td.setAttribute("data-v", cell[1]);
        if (cell[2]) {
          var mark = doc.createElement("span");
          mark.className = "m " + cell[2]; mark.textContent = cell[2] === "off" ? "▲" : "■";
          mark.title = cell[2] === "off" ? "off by more than 2 MCSE" : "failed";
          td.appendChild(mark);
        }
        tr.appendChild(td);
      });
      body.appendChild(tr);
    });
  }
  function show() {
    var state = read(), p = state.p || "0", d = state.d || null;
    all("select[data-pick=p]").forEach(function (s) { s.value = p; });
    all("select[data-pick=c]").forEach(function (s) { s.value = state.c || (cards && cards.first); });
    all("figure[data-p]").forEach(function (f) { f.classList.toggle("hide", f.getAttribute("data-p") !== p); });
    all("select[data-pick=d]").forEach(function (s) {
      var want = d !== null && s.querySelector('option[value="' + d + '"]') ? d : s.options[0].value;
      s.value = want;
      all("figure[data-d]").forEach(function (f) { f.classList.toggle("hide", f.getAttribute("data-d") !== want); });
    });
    fill();
  }
  all("select[data-pick]").forEach(function (s) {
    s.addEventListener("change", function () { var change = {}; change[s.getAttribute("data-pick")] = s.value; write(change); show(); });
  });

  /* sort a table by a column: numbers by their key, words by their text */
  function key(row, j) {
    var cell = row.cells[j], v = cell.getAttribute("data-v");
    if (v === null) v = cell.textContent;
    return v === "" || isNaN(v) ? v : Number(v);
  }
  all("table.sortable").forEach(function (table) {
    all("thead th", table).forEach(function (th, j) {
      var button = doc.createElement("button");
      button.textContent = th.textContent; button.type = "button";
      th.textContent = ""; th.appendChild(button);
      button.addEventListener("click", function () {
        var up = th.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
        all("thead th", table).forEach(function (other) { other.removeAttribute("aria-sort"); });
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        Array.prototype.slice.call(body.rows).map(function (row, i) { return [key(row, j), i, row]; }).sort(function (a, b) {
          var x = a[0], y = b[0], order;
          if (x === "" || y === "") order = x === y ? 0 : x === "" ? 2 : -2;
          else order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1;
          if (Math.abs(order) < 2 && !up) order = -order;
          return order || a[1] - b[1];
        }).forEach(function (item) { body.appendChild(item[2]); });
      });
    });
  });

  /* copy a table as CSV, or a command */
  function copy(text, button) {
    function done() { var was = button.textContent; button.textContent = "Copied"; setTimeout(function () { button.textContent = was; }, 1200); }
    function old() {
      var area = doc.createElement("textarea");
      area.value = text; doc.body.appendChild(area); area.select();
      try { doc.execCommand("copy"); done(); } finally { area.remove(); }
    }
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, old); else old();
  }
  all("button[data-copy]").forEach(function (b) { b.addEventListener("click", function () { copy(b.getAttribute("data-copy"), b); }); });
  all("button[data-csv]").forEach(function (b) {
    b.addEventListener("click", function () {
      var rows = all("tr", doc.getElementById(b.getAttribute("data-csv"))).map(function (tr) {
        return all("th,td", tr).map(function (td) { return '"' + td.textContent.replace(/"/g, '""') + '"'; }).join(",");
      });
      copy(rows.join("\n"), b);
    });
  });

  function start() {
    var state = read();
    theme(state.theme || keep("vcbench-theme") || "auto");
    show();
    var target = state.s && doc.getElementById(state.s);
    if (target) target.scrollIntoView();
  }
  window.addEventListener("hashchange", function () { if (location.hash.indexOf("=") > 0) start(); });
  start();
})();

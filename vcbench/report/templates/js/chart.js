/* Parts of pictures: scales, axes, the methods' symbols, tools to save a picture. */
vc.chart = (() => {
  const INK = "#1b2430", MUTED = "#5b6673", GRID = "#e3e7ec", BAND = "#e9eff6", FLAG = "#b3261e";
  const COLOURS = ["#00805e", "#0069a8", "#cf5000", "#8a6d00", "#b0478a", "#59595f"];

  /* from [low, high] to [from, to], linear or by logarithms; values outside are drawn at the edge */
  function scale(low, high, from, to, log) {
    const f = log ? Math.log10 : (v) => v, a = f(low), b = f(high);
    return (value) => from + (to - from) * Math.min(Math.max((f(value) - a) / (b - a || 1), 0), 1);
  }
  /* about `n` round numbers between low and high, two at the least on a linear scale */
  const ticks = (low, high, n, log) => { const some = round(low, high, n, log); return log || some.length > 1 ? some : round(low, high, 2 * n, log); };
  /* about `n` round numbers between low and high */
  function round(low, high, n, log) {
    if (log) {
      const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
      const step = Math.max(1, Math.ceil((last - first + 1) / n)), out = [];
      for (let k = first; k <= last; k += step) out.push(10 ** k);
      return out;
    }
    const rough = (high - low) / Math.max(n, 1), power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999), out = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(Math.abs(v) < step * 1e-9 ? 0 : +v.toPrecision(12));
    return out;
  }
  /* limits that hold the values and the target; one wild value in fifty does not press the others together */
  function limits(cells, target, log) {
    const values = cells.flatMap((cell) => [cell.x, cell.lo, cell.hi]).filter((v) => v !== null && isFinite(v) && (!log || v > 0)).sort((a, b) => a - b);
    if (!values.length) return log ? [1, 10] : [0, 1];
    let low = values[0], high = values[values.length - 1];
    if (log) return [10 ** Math.floor(Math.log10(low) + 1e-9), 10 ** Math.max(Math.ceil(Math.log10(high) - 1e-9), Math.floor(Math.log10(low)) + 1)];
    const at = (share) => values[Math.round(share * (values.length - 1))], reach = 12 * (at(0.75) - at(0.25));
    if (reach > 0) { low = Math.max(low, at(0.5) - reach); high = Math.min(high, at(0.5) + reach); }
    if (target !== null && target !== undefined) { low = Math.min(low, target); high = Math.max(high, target); }
    const room = 0.06 * (high - low) || Math.abs(high) * 0.05 || 1;
    return [low - room, high + room];
  }
  /* "10⁻³" for powers of ten, times with their unit, else the number */
  function label(value, unit, log) {
    if (unit === "s" && log) return value >= 1 ? `${vc.number(value)} s` : value >= 1e-3 ? `${vc.number(value * 1e3)} ms` : `${vc.number(value * 1e6)} µs`;
    return vc.number(value, 3);
  }

  const text = (x, y, said, attributes) => vc.svg("text", { x, y, fill: MUTED, "font-size": 11, ...attributes, text: said });
  const line = (x1, y1, x2, y2, attributes) => vc.svg("line", { x1, y1, x2, y2, stroke: MUTED, ...attributes });

  const SHAPES = {
    circle: "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", square: "M-3.5,-3.5h7v7h-7z", diamond: "M0,-5L4.4,0L0,5L-4.4,0z",
    "triangle-up": "M0,-4.8L4.6,3.6H-4.6z", "triangle-down": "M0,4.8L4.6,-3.6H-4.6z",
    "triangle-right": "M4.8,0L-3.6,4.6V-4.6z", "triangle-left": "M-4.8,0L3.6,4.6V-4.6z",
    cross: "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
  };
  const colour = (m) => COLOURS[vc.data.methods[m].colour];
  const symbol = (m, x, y, attributes) => vc.svg("path", { d: SHAPES[vc.data.methods[m].shape], transform: `translate(${x.toFixed(1)},${y.toFixed(1)})`, fill: colour(m), ...attributes });

  function picture(width, height, title) {
    return vc.svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": title, "font-family": "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif" });
  }
  /* said below the picture, with a way to save it */
  function framed(svg, caption, name) {
    const save = vc.el("button", { type: "button", text: "Save SVG", onclick: () => {
      const copy = svg.cloneNode(true);
      copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
      vc.save(`<?xml version="1.0" encoding="UTF-8"?>\n${copy.outerHTML}\n`, `${name}.svg`, "image/svg+xml");
    } });
    return [vc.el("div", { class: "chart scroll" }, svg), vc.el("p", { class: "caption" }, caption, " ", save)];
  }
  /* a method's name with its symbol, cut where there is no room */
  function name(m, x, y, room) {
    const full = vc.data.methods[m].label, most = Math.floor((room - 16) / 7), said = full.length > most ? `${full.slice(0, Math.max(most - 1, 3))}…` : full;
    const group = vc.svg("g", {}, symbol(m, x + 5, y - 4), text(x + 14, y, said, { fill: INK, "font-weight": 600, "font-size": 12 }));
    if (said !== full) group.append(vc.svg("title", { text: full }));
    return group;
  }
  return { INK, MUTED, GRID, BAND, FLAG, scale, ticks, limits, label, text, line, symbol, colour, picture, framed, name };
})();

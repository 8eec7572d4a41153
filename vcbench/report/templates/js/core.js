/* Elements, and small help that every other file uses. One name is shared by the files: vc. */
const vc = { views: {} };

vc.all = (selector, base) => Array.from((base || document).querySelectorAll(selector));

/* vc.el("button", { class: "x", type: "button", text: "Copy", onclick: f }, child, …); null children are left out */
vc.make = (space, tag, attributes, children) => {
  const element = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children) if (child !== null && child !== undefined) element.append(child);
  return element;
};
vc.el = (tag, attributes, ...children) => vc.make("", tag, attributes, children);
vc.svg = (tag, attributes, ...children) => vc.make("http://www.w3.org/2000/svg", tag, attributes, children);

vc.fill = (box, ...children) => box.replaceChildren(...children.filter((c) => c));
vc.plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
vc.percent = (share) => `${+(100 * share).toFixed(share > 0.9995 && share < 1 ? 2 : 1)} %`;

/* a number for an axis or a tip: 0.0123, −4.6e−9, 1 200 */
vc.number = (value, digits) => {
  if (value === null || !isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  let text = String(+value.toPrecision(digits || 4));
  if (size < 1e-4 || size >= 1e7) text = value.toExponential(Math.max((digits || 3) - 2, 0)).replace("e+", "e");
  else if (size >= 1e4) text = Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
  return text.replace(/-/g, "\u2212");
};

/* after this many calm milliseconds */
vc.later = (run, wait) => {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(run, wait); };
};

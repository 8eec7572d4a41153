/* One tip for everything that can be pointed at: a mouse over it, the keyboard on it, a finger on it. */
vc.tips = (() => {
  const box = vc.el("div", { id: "tip", role: "tooltip", hidden: true });
  let shown = null;

  function show(mark) {
    const text = mark.getAttribute("aria-label");
    if (!text) return;
    shown = mark;
    box.textContent = text;
    box.hidden = false;
    const at = mark.getBoundingClientRect(), size = box.getBoundingClientRect();
    const left = Math.min(Math.max(at.left + at.width / 2 - size.width / 2, 6), innerWidth - size.width - 6);
    const above = at.top - size.height - 8;
    box.style.left = `${Math.max(left, 6)}px`;
    box.style.top = `${above > 6 ? above : Math.min(at.bottom + 8, innerHeight - size.height - 6)}px`;
  }
  function hide() { shown = null; box.hidden = true; }

  const marked = (event) => (event.target instanceof Element ? event.target.closest("[data-tip]") : null);
  function start() {
    document.body.append(box);
    document.addEventListener("pointerover", (event) => { const mark = marked(event); if (mark) show(mark); else if (event.pointerType === "mouse") hide(); });
    document.addEventListener("pointerdown", (event) => { const mark = marked(event); if (mark) show(mark); else hide(); });
    document.addEventListener("focusin", (event) => { const mark = marked(event); if (mark && mark.matches(":focus-visible")) show(mark); else hide(); });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
    addEventListener("scroll", () => { if (shown) hide(); }, { passive: true });
  }

  /* Marks of a picture are one stop of the Tab key; arrows, Home and End go from mark to mark, Enter presses it. */
  function rove(picture, marks) {
    if (!marks.length) return;
    marks.forEach((mark, i) => { mark.setAttribute("tabindex", i ? "-1" : "0"); mark.setAttribute("data-tip", ""); if (!mark.hasAttribute("role")) mark.setAttribute("role", "img"); });
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    picture.addEventListener("keydown", (event) => {
      const i = marks.indexOf(document.activeElement);
      if (i < 0) return;
      let next = null;
      if (event.key in steps) next = marks[Math.min(Math.max(i + steps[event.key], 0), marks.length - 1)];
      else if (event.key === "Home") next = marks[0];
      else if (event.key === "End") next = marks[marks.length - 1];
      else if (event.key === "Enter" || event.key === " ") { event.preventDefault(); marks[i].dispatchEvent(new MouseEvent("click", { bubbles: true })); }
      if (!next) return;
      event.preventDefault();
      marks[i].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }

  /* still pictures: a mark that describes itself does so in the same tip */
  function adopt(picture) {
    const marks = vc.all("path > title", picture).map((title) => {
      const mark = title.parentNode;
      mark.setAttribute("aria-label", title.textContent);
      title.remove();
      return mark;
    });
    rove(picture, marks);
  }
  return { start, show, hide, rove, adopt };
})();

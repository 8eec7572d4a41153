/* Light, dark, or as the system says; kept in this browser, or named in the address (theme=dark). */
vc.theme = (() => {
  const names = { auto: "◐ auto", light: "○ light", dark: "● dark" }, next = { auto: "light", light: "dark", dark: "auto" };
  const kept = (value) => {
    try {
      if (value !== undefined) localStorage.setItem("vcbench-theme", value);
      return localStorage.getItem("vcbench-theme");
    } catch { return null; }
  };
  function apply(name) {
    const root = document.documentElement, button = document.getElementById("theme");
    if (name === "light" || name === "dark") root.dataset.theme = name;
    else { name = "auto"; delete root.dataset.theme; }
    if (button) { button.textContent = names[name]; button.value = name; }
  }
  function start() {
    const button = document.getElementById("theme");
    apply(vc.state.get("theme", kept() || "auto"));
    if (button) button.addEventListener("click", () => { const name = next[button.value || "auto"]; kept(name); apply(name); });
  }
  return { start, apply };
})();

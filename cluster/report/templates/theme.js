// Before anything is drawn: the reader's last choice, or what the system prefers.
(() => {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try { return localStorage.getItem("stillhouse-theme"); } catch { return null; }
  };
  const chosen = () => stored() || (system.matches ? "dark" : "light");
  const apply = () => {
    const theme = chosen();
    document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = theme === "dark" ? "Light" : "Dark";
      button.setAttribute("aria-label", `Change to ${button.textContent.toLowerCase()}`);
    }
    document.dispatchEvent(new CustomEvent("theme", { detail: theme }));
  };
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      const next = chosen() === "dark" ? "light" : "dark";
      try { localStorage.setItem("stillhouse-theme", next); } catch { /* for this page only */ }
      apply();
    });
    apply();
  });
  apply();
})();

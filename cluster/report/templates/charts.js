// Draws every figure in its place, and again when the theme changes.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figures"), dark = read("dark");
  const places = [...document.querySelectorAll("[data-chart]")];
  const draw = (theme) => {
    for (const place of places) drawFigure(place, figures[place.dataset.chart], theme, dark);
  };
  if (!places.length) return;
  const now = () => document.documentElement.dataset.theme;
  draw(now());
  document.addEventListener("theme", (event) => draw(event.detail));
  window.addEventListener("beforeprint", () => draw("light"));
  window.addEventListener("afterprint", () => draw(now()));
})();

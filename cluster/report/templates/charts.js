// Draws every figure in its place, in the colours of the theme.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figures"), dark = read("dark");
  const places = [...document.querySelectorAll("[data-chart]")];
  const numbers = new Set(["x", "y"]);
  const painted = (value) => {
    if (typeof value === "string") return dark[value] || value;
    if (Array.isArray(value)) return value.map(painted);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(
      ([key, child]) => [key, numbers.has(key) ? child : painted(child)]));
  };
  const draw = (theme) => {
    for (const place of places) {
      const figure = figures[place.dataset.chart];
      const own = theme === "dark" ? painted(figure) : structuredClone(figure);
      own.layout.hoverlabel = theme === "dark"
        ? { bgcolor: "#1d2126", font: { color: "#e8eaed" } }
        : { bgcolor: "#ffffff", font: { color: "#1f2328" } };
      Plotly.react(place, own.data, own.layout, { responsive: true, displayModeBar: false });
    }
  };
  if (!places.length) return;
  const now = () => document.documentElement.dataset.theme;
  draw(now());
  document.addEventListener("theme", (event) => draw(event.detail));
  window.addEventListener("beforeprint", () => draw("light"));
  window.addEventListener("afterprint", () => draw(now()));
})();

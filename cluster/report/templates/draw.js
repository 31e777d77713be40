// Draws a figure in a place of the page, in the colours of a theme.
const drawFigure = (() => {
  const numbers = new Set(["x", "y"]);
  const painted = (value, colours) => {
    if (typeof value === "string") return colours[value] || value;
    if (Array.isArray(value)) return value.map((child) => painted(child, colours));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(
      ([key, child]) => [key, numbers.has(key) ? child : painted(child, colours)]));
  };
  return (place, figure, theme, dark) => {
    const own = painted(figure, theme === "dark" ? dark : {});
    own.layout.hoverlabel = theme === "dark"
      ? { bgcolor: "#1d2126", font: { color: "#e8eaed" } }
      : { bgcolor: "#ffffff", font: { color: "#1f2328" } };
    Plotly.react(place, own.data, own.layout, { responsive: true, displayModeBar: false });
  };
})();

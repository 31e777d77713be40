// The live page: asks its server for the run's state every second, and for its curves less often.

const STATE_MS = 1000;
const CHARTS_MS = 3000;

const part = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const plain = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const tiny = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "scientific" });
const figure = (value) => (value && Math.abs(value) < 1e-3 ? tiny : plain).format(value);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

let state = null;
let steering = false;

async function ask(path, options) {
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

async function want(changes, said) {
  part("answer").textContent = said;
  try {
    show(await ask("/want", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(changes),
    }));
  } catch (error) {
    part("answer").textContent = error.message;
  }
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function tiles(run) {
  const figures = run.figures;
  const known = [
    ["env steps", number.format(run.env_steps)],
    ["env steps a second", figures["learner/env_steps_per_s"], number.format],
    ["share of the teacher", figures["student/share_of_teacher"], percent],
    ["student's return", figures["student/training_return"], figure],
    ["loss", figures["learner/loss"], figure],
    ["policy lag, versions", figures["actor/policy_lag_versions"], number.format],
    ["learner waits", figures["learner/wait_share"], percent],
    ["env runners wait", figures["actor/wait_share"], percent],
  ];
  return known.map(([name, value, format]) => {
    const tile = document.createElement("div");
    const text = value === undefined ? "–" : format ? format(value) : value;
    tile.append(element("dt", name), element("dd", text));
    return tile;
  });
}

function actorRow(actor) {
  const row = document.createElement("tr");
  const name = element("th", actor.name);
  name.scope = "row";
  const rate = actor.per_s === null ? "–" : `${number.format(actor.per_s)} ${actor.unit}`;
  row.append(
    name,
    element("td", actor.still_s < 5 ? "moves" : `still for ${number.format(actor.still_s)} s`),
    element("td", rate),
    element("td", actor.wait_share === null ? "–" : percent(actor.wait_share)),
    element("td", actor.policy_version === null ? "–" : actor.policy_version),
    element("td", actor.starts),
  );
  return row;
}

function trouble(run) {
  if (run.ended) return "";
  if (!run.alive) return `Nothing was heard of the run for ${number.format(run.age_s)} s.`;
  return [run.waiting_for, run.stands_still].filter(Boolean).join("; ");
}

function show(run) {
  state = run;
  document.title = `${run.name}: ${run.phase}`;
  part("name").textContent = `${run.name} (${run.task})`;
  const phase = run.paused && !run.ended ? "paused" : run.phase;
  part("phase").textContent = run.detail ? `${phase}: ${run.detail}` : phase;
  part("progress").value = run.total_env_steps ? run.env_steps / run.total_env_steps : 0;
  part("trouble").textContent = trouble(run);
  part("trouble").hidden = !part("trouble").textContent;
  part("tiles").replaceChildren(...tiles(run));
  part("actors").replaceChildren(...run.actors.map(actorRow));
  const lines = part("lines");
  const atEnd = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 4;
  lines.textContent = run.lines.join("\n");
  if (atEnd) lines.scrollTop = lines.scrollHeight;
  controls(run);
}

function controls(run) {
  const runners = part("runners");
  runners.min = run.min_env_runners;
  if (!steering) runners.value = run.wanted.num_env_runners ?? run.env_runners_wanted;
  part("pause").textContent = run.wanted.paused ? "Go on" : "Pause";
  for (const control of part("controls").querySelectorAll("input, button")) {
    control.disabled = run.ended || !run.alive;
  }
}

async function showCharts() {
  const places = part("charts");
  const { charts, dark } = await ask("/charts");
  while (places.children.length < charts.length) places.append(chartPlace());
  const theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  charts.forEach((chart, index) => {
    const [title, place] = places.children[index].children;
    title.textContent = chart.title;
    place.setAttribute("aria-label", chart.summary);
    drawFigure(place, chart.figure, theme, dark);
  });
}

function chartPlace() {
  const figure = document.createElement("figure");
  const place = document.createElement("div");
  place.role = "img";
  figure.append(element("figcaption", ""), place);
  return figure;
}

async function repeat(work, pause) {
  for (;;) {
    try {
      await work();
    } catch (error) {
      part("trouble").hidden = false;
      part("trouble").textContent = `${error.message || "no answer"} (the page goes on asking)`;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

part("runners").addEventListener("input", () => { steering = true; });
part("scale").addEventListener("submit", (event) => {
  event.preventDefault();
  steering = false;
  const wanted = part("runners").valueAsNumber;
  want({ num_env_runners: wanted }, `${wanted} env runners are wanted.`);
});
part("pause").addEventListener("click", () => {
  const paused = !state.wanted.paused;
  want({ paused }, paused ? "The env runners shall hold still." : "The run shall go on.");
});
part("stop").addEventListener("click", () => {
  if (confirm("End the run with a checkpoint? It can be resumed from there.")) {
    want({ stop: true }, "The run shall end with a checkpoint.");
  }
});

const game = part("game");
game.addEventListener("load", () => {
  game.hidden = false;
  part("no-game").hidden = true;
});
game.addEventListener("error", () => {
  game.hidden = true;
  part("no-game").hidden = false;
  part("no-game").textContent = "There are no pictures of this game.";
});
game.src = "/game";

repeat(async () => show(await ask("/state")), STATE_MS);
repeat(showCharts, CHARTS_MS);

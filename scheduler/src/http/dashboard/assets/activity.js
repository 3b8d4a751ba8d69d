// The last hour, or as much of it as there is: tokens a second and jobs that wait, as the server saw them.

import { get, repeat } from "./api.js";
import { element, facts, notice, number, rate } from "./page.js";

const EVERY_MS = 5000;
const SPAN_LEAST_S = 60;
const WIDTH = 600;
const HEIGHT = 100;

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function chart(title, unit, samples, value, span) {
  const values = samples.map(value);
  const most = Math.max(1, ...values);
  const end = samples.at(-1)?.at ?? 0;
  const points = samples.map((sample, at) => {
    const x = WIDTH * (1 - (end - sample.at) / span);
    return `${x.toFixed(1)},${(HEIGHT * (1 - values[at] / most)).toFixed(1)}`;
  });
  const now = values.at(-1) ?? 0;
  const drawn = svg("svg", { class: "chart", viewBox: `0 -4 ${WIDTH} ${HEIGHT + 8}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${title}: now ${rate(now)} ${unit}, at most ${rate(most)} in the time shown` });
  for (const y of [0, HEIGHT / 2, HEIGHT]) drawn.append(svg("line", { x1: 0, x2: WIDTH, y1: y, y2: y }));
  drawn.append(svg("polyline", { points: points.join(" ") }));
  return element("figure", {}, element("figcaption", {}, element("strong", {}, title),
    element("span", { class: "soft" }, `now ${rate(now)} ${unit}, at most ${rate(most)}`)), drawn);
}

export async function activity(view, signal) {
  const place = element("div");
  view.append(element("h1", {}, "Activity"), place);
  await repeat(EVERY_MS, signal, async () => {
    try {
      const found = await get("/v1/activity");
      if (signal.aborted) return;
      const now = found.samples.at(-1);
      const span = Math.max(SPAN_LEAST_S, (now?.at ?? 0) - (found.samples[0]?.at ?? 0));
      place.replaceChildren(
        facts([
          ["Batches in progress", now && number(now.batches)],
          ["Jobs unfinished", now && number(now.unfinished)],
          ["Jobs running", now && number(now.running)],
          ["Nodes that work", now && number(now.nodes)],
        ]),
        chart("Generated tokens a second", "tokens/s", found.samples, (sample) => sample.tokens_per_s, span),
        chart("Unfinished jobs", "jobs", found.samples, (sample) => sample.unfinished, span));
    } catch (error) {
      notice(error.message, true);
    }
  });
}

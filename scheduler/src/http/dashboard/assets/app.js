// Which page is shown: the part of the address behind the `#` says it, so that links, history and reloads work.

import { notice } from "./page.js";
import { batches } from "./batches.js";
import { batch, job } from "./batch.js";
import { nodes } from "./nodes.js";
import { schedules } from "./schedules.js";
import { activity } from "./activity.js";

const pages = [
  [/^#\/batches$/, "Batches", batches],
  [/^#\/batches\/([^/?]+)$/, "Batch", batch],
  [/^#\/batches\/([^/?]+)\/jobs\/(\d+)$/, "Job", job],
  [/^#\/nodes$/, "Nodes", nodes],
  [/^#\/schedules$/, "Schedules", schedules],
  [/^#\/activity$/, "Activity", activity],
];

const view = document.getElementById("view");
let leaving = new AbortController();

function show(moved) {
  // The skip link is no page.
  if (location.hash === "#view") {
    view.focus();
    return;
  }
  const address = location.hash || "#/batches";
  const found = pages.map(([pattern, title, page]) => [address.match(pattern), title, page]).find(([match]) => match);
  leaving.abort();
  leaving = new AbortController();
  if (!found) {
    location.hash = "#/batches";
    return;
  }
  const [match, title, page] = found;
  for (const link of document.querySelectorAll("nav a")) {
    const here = address.startsWith(link.getAttribute("href"));
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} · rbee`;
  view.replaceChildren();
  if (moved) {
    notice("");
    view.focus();
  }
  const signal = leaving.signal;
  Promise.resolve(page(view, signal, ...match.slice(1).map(decodeURIComponent))).catch((error) => {
    if (!signal.aborted) notice(error.message, true);
  });
}

addEventListener("hashchange", () => show(true));
show(false);

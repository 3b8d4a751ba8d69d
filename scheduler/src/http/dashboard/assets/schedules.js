// What runs by itself, when it ran, and when it runs next.

import { get, part, post, repeat } from "./api.js";
import { action, element, notice, number, table } from "./page.js";

const EVERY_MS = 5000;

const local = (tick) => tick ? element("time", { datetime: tick.utc, title: tick.utc }, tick.local.replace("T", " ")) : "";

function last(schedule) {
  const run = schedule.last_run;
  if (!run) return "none yet";
  const counts = run.request_counts;
  const words = counts ? `${run.state}, ${number(counts.completed)} of ${number(counts.total)}` : `${run.state}${run.reason ? `: ${run.reason}` : ""}`;
  return run.batch ? element("a", { href: `#/batches/${run.batch}` }, words) : words;
}

export async function schedules(view, signal) {
  const list = element("div");
  view.append(element("h1", {}, "Schedules"), list);

  const buttons = (schedule) => {
    const path = `/v1/schedules/${part(schedule.id)}`;
    const after = (work, said) => async () => { await work(); await refresh(true); return said; };
    return element("span", { class: "actions" },
      action("Run now", after(() => post(`${path}/run`), `${schedule.name} runs.`)),
      schedule.paused
        ? action("Resume", after(() => post(`${path}/resume`), `${schedule.name} goes on.`))
        : action("Pause", after(() => post(`${path}/pause`), `${schedule.name} is paused.`)));
  };
  const columns = [
    { name: "Schedule", text: true, cell: (schedule) => schedule.name },
    { name: "Cron", cell: (schedule) => element("code", {}, schedule.cron) },
    { name: "Zone", cell: (schedule) => schedule.tz },
    { name: "Next run", cell: (schedule) => schedule.paused ? "paused" : local(schedule.next_runs[0]) || "never again" },
    { name: "Last run", text: true, cell: last },
    { name: "Wish", cell: buttons },
  ];

  async function refresh(now = false) {
    const found = await get("/v1/schedules");
    if (signal.aborted || (!now && list.querySelector("button:focus, button:disabled"))) return;
    list.replaceChildren(found.data.length > 0
      ? table("By name", columns, found.data)
      : element("p", {}, "There is no schedule. ", element("code", {}, "rbee schedule add '0 2 * * *' prompts.jsonl"), " makes one."));
  }
  await repeat(EVERY_MS, signal, () => refresh().catch((error) => notice(error.message, true)));
}

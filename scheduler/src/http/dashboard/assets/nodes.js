// Who computes, with what, and how fast.

import { get, part, post, repeat } from "./api.js";
import { action, bytes, element, notice, number, rate, table } from "./page.js";

const EVERY_MS = 2000;
const SHORT = 12;

const models = (report) => [
  ...report.resident.map((model) => `${model.model.slice(0, SHORT)} (${bytes(model.bytes)})`),
  ...report.loading.map((model) => `${model.model.slice(0, SHORT)} (${model.stage} ${Math.round(model.share * 100)}%)`),
].join(", ");

const speed = (report) => report.resident.reduce((sum, model) => sum + model.tokens_per_s, 0);

function wish(node) {
  const name = node.report.name;
  const drains = node.drain_wanted || node.report.draining;
  return drains
    ? action("Take work again", async () => { await post(`/v1/nodes/${part(name)}/undrain`); return `${name} takes work again.`; })
    : action("Drain", async () => { await post(`/v1/nodes/${part(name)}/drain`); return `${name} finishes what it has and takes nothing new.`; });
}

const columns = [
  { name: "Node", text: true, cell: (node) => node.report.name },
  { name: "State", cell: (node) => element("span", { class: node.state === "lost" && "bad" }, node.state) },
  { name: "Jobs", number: true, cell: (node) => `${number(node.report.running)} / ${number(node.report.slots)}` },
  { name: "Memory", cell: (node) => node.report.devices.map((device) => `${device.name} ${bytes(device.memory_bytes)}`).join(", ") },
  { name: "Models in memory", text: true, cell: (node) => models(node.report) },
  { name: "Tokens/s", number: true, cell: (node) => rate(speed(node.report)) },
  { name: "Seen", cell: (node) => node.silent_us < 3e6 ? "now" : `${number(node.silent_us / 1e6)} s ago` },
  { name: "Wish", cell: wish },
];

export async function nodes(view, signal) {
  const list = element("div");
  view.append(element("h1", {}, "Nodes"), list);
  await repeat(EVERY_MS, signal, async () => {
    try {
      const found = await get("/v1/nodes");
      if (signal.aborted) return;
      // Nobody loses a button under the finger.
      if (list.querySelector("button:focus, button:disabled")) return;
      list.replaceChildren(found.data.length > 0
        ? table("By name", columns, found.data)
        : element("p", {}, "There is no node. ", element("code", {}, "rbee worker"), " is one, on each machine that computes."));
    } catch (error) {
      notice(error.message, true);
    }
  });
}

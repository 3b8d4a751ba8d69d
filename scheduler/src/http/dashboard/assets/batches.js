// All batches, a page at a time.

import { get, part, repeat, send } from "./api.js";
import { bar, element, moment, number, notice, table } from "./page.js";

const PAGE = 50;
const EVERY_MS = 2000;

const columns = [
  { name: "Batch", text: true, cell: (batch) => element("a", { href: `#/batches/${batch.id}` }, batch.name || batch.id) },
  { name: "Status", cell: status },
  { name: "Progress", cell: (batch) => bar(batch.request_counts) },
  { name: "Done", number: true, cell: (batch) => `${number(done(batch))} of ${number(batch.request_counts.total)}` },
  { name: "Failed", number: true, cell: (batch) => failed(batch) },
  { name: "Tokens", number: true, cell: (batch) => number(batch.usage.output_tokens) },
  { name: "Made", cell: (batch) => moment(batch.created_at) },
];

const done = (batch) => batch.request_counts.completed + batch.request_counts.failed;

function failed(batch) {
  const count = batch.request_counts.failed;
  return element("span", { class: count > 0 && "bad" }, number(count));
}

export function status(batch) {
  if (batch.paused_reason) return `paused: ${batch.paused_reason}`;
  return batch.status.replaceAll("_", " ");
}

// A file becomes a batch by the same two requests that OpenAI's clients send.
function submitting() {
  const file = element("input", { type: "file", name: "file", required: true, accept: ".jsonl,.ndjson,.json" });
  const button = element("button", {}, "Submit");
  const form = element("form", { class: "actions", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const upload = new FormData();
      upload.append("purpose", "batch");
      upload.append("file", file.files[0]);
      notice(`Sending ${file.files[0].name}…`);
      const kept = await send("/v1/files", upload);
      const batch = await send("/v1/batches", { input_file_id: kept.id, endpoint: "/v1/chat/completions", completion_window: "30d" });
      location.hash = `#/batches/${batch.id}`;
    } catch (error) {
      notice(error.message, true);
    } finally {
      button.disabled = false;
    }
  } }, element("label", {}, "Prompts, one JSON object a line", file), button);
  return element("details", {}, element("summary", {}, "Submit a file"), form);
}

export async function batches(view, signal) {
  const list = element("div");
  const older = element("a", { href: "#/batches" }, "Older batches");
  const newest = element("button", { type: "button", hidden: true, onclick: () => { after = []; refresh(); } }, "Newest");
  // The cursor of each page that was passed: the last one is where this page begins.
  let after = [];
  let last = null;
  older.addEventListener("click", (event) => {
    event.preventDefault();
    after.push(last);
    refresh();
  });
  view.append(element("h1", {}, "Batches"), submitting(), list, element("p", { class: "actions" }, newest, older));

  async function refresh() {
    const cursor = after.at(-1);
    const page = await get(`/v1/batches?limit=${PAGE}${cursor ? `&after=${part(cursor)}` : ""}`);
    if (signal.aborted) return;
    last = page.last_id;
    older.hidden = !page.has_more;
    newest.hidden = after.length === 0;
    if (page.data.length === 0 && after.length === 0) {
      list.replaceChildren(element("p", {}, "There is no batch yet. ", element("code", {}, "rbee submit prompts.jsonl"), " makes one."));
      return;
    }
    // What has the focus keeps it while the table is made anew.
    const focused = document.activeElement?.getAttribute("href");
    list.replaceChildren(table("Newest first", columns, page.data));
    if (focused && !document.activeElement.href) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  }

  await repeat(EVERY_MS, signal, () => refresh().catch((error) => notice(error.message, true)));
}

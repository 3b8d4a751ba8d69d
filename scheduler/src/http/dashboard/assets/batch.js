// One batch as it runs: its progress, the text of running jobs, its errors, and its jobs by number.

import { get, listen, part, post } from "./api.js";
import { action, bar, duration, element, facts, moment, notice, number, rate, table } from "./page.js";
import { status } from "./batches.js";

const SHOWN_ERRORS = 200;
const SHOWN_TEXTS = 24;
const JOBS = 20;

const isOver = (batch) => ["completed", "failed", "cancelled", "expired"].includes(batch.status);

export async function batch(view, signal, id) {
  const path = `/v1/batches/${part(id)}`;
  let seen = await get(path);
  if (signal.aborted) return;
  const title = element("h1", {}, seen.name || seen.id);
  const progress = element("div");
  const counted = element("div");
  const buttons = element("div", { class: "actions" });
  const running = element("ul", { class: "jobs", "aria-label": "Running jobs" });
  const runningTitle = element("h2", {}, "Running now");
  const errors = element("div");
  const errorsTitle = element("h2", {}, "Failed");
  view.append(title, element("p", { class: "soft" }, seen.id), progress, counted, buttons, runningTitle, running, errorsTitle, errors);
  view.append(...jobs(path, seen, signal));

  const verb = (name, verb, said, options) => action(name, async () => {
    const answer = await post(`${path}/${verb}`);
    show(answer.batch ?? answer);
    follow();
    return said(answer);
  }, options);

  function show(batch, live) {
    seen = { ...seen, ...batch };
    const counts = seen.request_counts;
    const over = isOver(seen);
    progress.replaceChildren(bar(counts));
    counted.replaceChildren(facts([
      ["Status", status(seen)],
      ["Done", `${number(counts.completed + counts.failed)} of ${number(counts.total)}`],
      ["Failed", number(counts.failed)],
      ["Tokens", `${number(seen.usage.input_tokens)} in, ${number(seen.usage.output_tokens)} out`],
      ["Speed", live && !over && live.jobs_per_s > 0 && `${rate(live.tokens_per_s)} tokens/s, ${rate(live.jobs_per_s)} jobs/s`],
      ["Time left", live && !over && live.eta_s !== null && duration(live.eta_s)],
      ["Waits", seen.waiting],
      ["Nodes", live?.nodes.map((node) => `${node.name} (${number(node.jobs)})`).join(", ")],
      ["Made", moment(seen.created_at)],
      ["Took", over && seen.finished_at_us && duration((seen.finished_at_us - seen.created_at_us) / 1e6)],
    ].filter(([, value]) => value !== false)));
    const mine = [];
    if (!over && !seen.paused_reason) mine.push(verb("Pause", "pause", () => "It is paused: what runs finishes."));
    if (seen.paused_reason) mine.push(verb("Resume", "resume", () => "It goes on."));
    if (!over) mine.push(verb("Cancel", "cancel", () => "It is cancelled.", { question: "Cancel this batch? What is finished is kept." }));
    if (over && counts.failed > 0) mine.push(verb("Retry failed jobs", "retry", (answer) => `${number(answer.retried)} jobs run again.`));
    const names = mine.map((button) => button.textContent).join();
    if (buttons.dataset.names !== names) {
      const focused = buttons.contains(document.activeElement);
      buttons.replaceChildren(...mine);
      buttons.dataset.names = names;
      if (focused) buttons.firstElementChild?.focus();
    }
  }

  const texts = new Map();
  const failures = [];

  function write(piece) {
    if (piece.choice !== 0) return;
    let entry = texts.get(piece.index);
    if (!entry) {
      if (texts.size >= SHOWN_TEXTS) return;
      const text = element("p", { class: "tokens" });
      const item = element("li", {}, element("a", { href: `#/batches/${id}/jobs/${piece.index}` }, `Job ${number(piece.index)}`), text);
      entry = { item, text };
      texts.set(piece.index, entry);
      running.append(item);
    }
    entry.text.append(piece.text);
    entry.text.scrollTop = entry.text.scrollHeight;
    runningTitle.hidden = false;
  }

  function forget(index) {
    texts.get(index)?.item.remove();
    texts.delete(index);
    runningTitle.hidden = texts.size === 0;
  }

  function clearTexts() {
    texts.clear();
    running.replaceChildren();
    runningTitle.hidden = true;
  }

  let drawing = false;
  function fail(result) {
    failures.push(result);
    if (failures.length > SHOWN_ERRORS) failures.shift();
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => { drawing = false; drawErrors(); });
  }

  function drawErrors() {
    errorsTitle.hidden = failures.length === 0;
    errors.replaceChildren();
    if (failures.length === 0) return;
    const caption = failures.length < SHOWN_ERRORS ? "As they came" : `The last ${SHOWN_ERRORS}, as they came`;
    errors.append(table(caption, [
      { name: "Job", number: true, cell: (one) => element("a", { href: `#/batches/${id}/jobs/${one.index}` }, number(one.index)) },
      { name: "Error", cell: (one) => element("code", {}, one.error.code) },
      { name: "What happened", text: true, cell: (one) => one.error.message },
      { name: "Node", cell: (one) => one.node },
    ], failures));
  }

  let following = new AbortController();
  signal.addEventListener("abort", () => following.abort());
  function follow() {
    following.abort();
    following = new AbortController();
    clearTexts();
    failures.length = 0;
    drawErrors();
    listen(`${path}/events?results=errors&last=${SHOWN_ERRORS}`, {
      batch: (batch) => show(batch),
      progress: (live) => show(live, live),
      result: fail,
      end: (batch) => { clearTexts(); show(batch); },
      error: (trouble) => notice(trouble.message, true),
    }, following.signal);
    if (isOver(seen)) return;
    // Text comes with the results that end it, from now on.
    listen(`${path}/events?results=all&tokens=all&after=${seen.last_finish_no}`, {
      text: write,
      reset: (reset) => forget(reset.index),
      result: (result) => forget(result.index),
      end: clearTexts,
    }, following.signal);
  }
  show(seen);
  follow();
}

// Jobs by their numbers, some at a time: a million are as quick as ten.
function jobs(path, batch, signal) {
  const total = batch.request_counts.total;
  const list = element("div");
  const from = element("input", { type: "number", min: 0, max: Math.max(total - 1, 0), value: 0, name: "from" });
  const form = element("form", { class: "actions", onsubmit: (event) => { event.preventDefault(); open(Number(from.value)).catch((error) => notice(error.message, true)); } },
    element("label", {}, "From job", from), element("button", {}, "Show"),
    action("Earlier", () => open(at - JOBS)), action("Later", () => open(at + JOBS)));
  let at = 0;

  async function open(wanted) {
    at = Math.min(Math.max(0, Math.floor(wanted) || 0), Math.max(0, total - 1));
    from.value = at;
    const indices = Array.from({ length: Math.min(JOBS, total - at) }, (_, step) => at + step);
    if (indices.length === 0) return;
    const kept = await get(`${path}/jobs?at=${indices.join()}`);
    if (signal.aborted) return;
    list.replaceChildren(table(`Jobs ${number(at)} to ${number(at + indices.length - 1)} of ${number(total)}`, [
      { name: "Job", number: true, cell: (one) => element("a", { href: `#/batches/${batch.id}/jobs/${one.index}` }, number(one.index)) },
      { name: "State", cell: (one) => one.state },
      { name: "Line", text: true, cell: (one) => cut(one.line, 300) },
      { name: "Answer", text: true, cell: answer },
    ], kept.jobs));
  }

  const details = element("details", {}, element("summary", {}, "Lines and answers"), form, list);
  details.addEventListener("toggle", () => {
    if (details.open && list.childElementCount === 0) open(0).catch((error) => notice(error.message, true));
  });
  return [element("h2", {}, "Jobs"), details];
}

function answer(one) {
  const outcome = one.record?.outcome;
  if (outcome?.failed) return element("span", { class: "bad" }, outcome.failed.message);
  return cut(outcome?.completed?.choices[0]?.text ?? "", 300);
}

const cut = (text, most) => text.length > most ? `${text.slice(0, most)}…` : text;

// One job: its line, its text as it grows, its result.
export async function job(view, signal, id, index) {
  const path = `/v1/batches/${part(id)}/jobs`;
  const state = element("div");
  const text = element("pre", { class: "tokens-live", "aria-live": "off" });
  const line = element("pre");
  const result = element("pre");
  const resultTitle = element("h2", { hidden: true }, "Result line");
  view.append(element("p", {}, element("a", { href: `#/batches/${id}` }, "Back to the batch")), element("h1", {}, `Job ${number(index)}`),
    state, element("h2", {}, "Text"), text, resultTitle, result, element("h2", {}, "Line"), line);
  result.hidden = true;
  const kept = await get(`${path}?at=${index}`);
  if (signal.aborted) return;
  line.textContent = kept.jobs[0]?.line ?? "";

  function show(job) {
    state.replaceChildren(facts([["State", job.state], ["Line", number(job.line_number)], ["Attempt", number(job.attempt)], ["Node", job.node], ["Waits", job.waiting]]));
    if (job.result) {
      resultTitle.hidden = result.hidden = false;
      result.textContent = JSON.stringify(job.result, null, 2);
    }
  }
  listen(`${path}/${index}/events`, {
    job: show,
    text: (piece) => { if (piece.choice === 0) text.append(piece.text); },
    reset: () => text.replaceChildren(),
    end: (job) => {
      show(job);
      const whole = job.result?.text ?? job.result?.response?.body?.choices?.[0]?.message?.content;
      if (typeof whole === "string") text.textContent = whole;
    },
    error: (trouble) => notice(trouble.message, true),
  }, signal);
}

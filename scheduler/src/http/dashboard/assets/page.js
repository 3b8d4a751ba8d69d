// Elements, numbers and moments: what all pages are made of. Text from the server is only ever set as text.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "onclick" || key === "onsubmit") made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

// A table whose cells carry their column's name, which shows on narrow screens.
export function table(caption, columns, rows) {
  const head = columns.map((column) => element("th", { scope: "col", class: column.number && "number" }, column.name));
  const body = rows.map((row) => element("tr", {}, ...columns.map((column) => {
    const kind = [column.number && "number", column.text && "text"].filter(Boolean).join(" ");
    return element("td", { "data-label": column.name, class: kind || undefined }, column.cell(row) ?? "");
  })));
  return element("table", {}, element("caption", {}, caption), element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
}

export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return element("dl", { class: "facts" }, ...shown.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

const whole = new Intl.NumberFormat("en");
export const number = (value) => whole.format(Math.round(value));
export const rate = (value) => value >= 10 ? number(value) : value.toFixed(1);

export function bytes(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${value >= 10 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
}

export function moment(unixSeconds) {
  const date = new Date(unixSeconds * 1000);
  return element("time", { datetime: date.toISOString(), title: date.toISOString() }, date.toLocaleString());
}

export function bar(counts) {
  const done = counts.completed + counts.failed;
  const share = counts.total === 0 ? 0 : done / counts.total;
  const percent = `${Math.floor(share * 100)}%`;
  return element("progress", { max: Math.max(counts.total, 1), value: done, "aria-label": `${percent} done` }, percent);
}

export function notice(text, bad = false) {
  const place = document.getElementById("notice");
  place.classList.toggle("bad", bad);
  place.textContent = text;
}

// A button that does one thing at a time, and says what became of it.
export function action(name, work, { question } = {}) {
  const button = element("button", { type: "button", onclick: async () => {
    if (question && !confirm(question)) return;
    button.disabled = true;
    try {
      const said = await work();
      if (said) notice(said);
    } catch (error) {
      notice(error.message, true);
    } finally {
      button.disabled = false;
    }
  } }, name);
  return button;
}

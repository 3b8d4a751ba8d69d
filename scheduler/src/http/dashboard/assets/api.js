// What the pages ask the server, and how its refusals read.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options) {
  const response = await fetch(path, { headers: { accept: "application/json" }, ...options });
  if (response.status === 401) {
    location.assign("/login");
    throw new Refused(401, "The session is over.");
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) {
    throw new Refused(response.status, body?.error?.message ?? `The server answered ${response.status}.`);
  }
  return body;
}

export const get = (path) => ask(path);
export const post = (path) => ask(path, { method: "POST" });
export const send = (path, body) => ask(path, {
  method: "POST",
  body: body instanceof FormData ? body : JSON.stringify(body),
  headers: { accept: "application/json", ...(body instanceof FormData ? {} : { "content-type": "application/json" }) },
});
export const part = (text) => encodeURIComponent(text);

// Listens to a stream of events until `signal` is aborted or the stream has ended.
export function listen(path, handlers, signal) {
  const source = new EventSource(path);
  const stop = () => source.close();
  signal.addEventListener("abort", stop);
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => {
      // The browser's own `error` has no data: it connects again by itself, and goes on where it was.
      if (event.data === undefined) return;
      handle(JSON.parse(event.data));
      if (name === "end" || name === "error") stop();
    });
  }
}

// Does something now and every so many milliseconds, never twice at once, until `signal` is aborted.
export async function repeat(every, signal, work) {
  while (!signal.aborted) {
    await work();
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, every);
      signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
    });
    while (document.hidden && !signal.aborted) {
      await new Promise((resolve) => {
        document.addEventListener("visibilitychange", resolve, { once: true });
        signal.addEventListener("abort", resolve, { once: true });
      });
    }
  }
}

// Keeps the parts of a page with `data-live` up to date while the page is visible, and shows the messages of its flow.
// Without this script a page shows the state of its loading.

const RETRY_MS = 5000;
const MAX_LINES = 200;
const REPEAT_MS = 2000;

const parts = document.querySelectorAll("[data-live]");
const tail = document.querySelector("[data-tail]");

// What the parts should show. A part with the focus would lose it, so it waits, unless the focus is on its details.
const wanted = new Map();

function showParts() {
  for (const [name, html] of wanted) {
    const part = document.querySelector(`[data-live="${name}"]`);
    const focused = part?.contains(document.activeElement) ? document.activeElement : null;
    if (focused && !focused.matches("[data-key] > summary")) continue;
    wanted.delete(name);
    const fresh = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
    if (part && fresh) replacePart(part, document.adoptNode(fresh), focused?.parentElement.dataset.key);
  }
}

// What was opened stays open, and the details with this key keep the focus.
function replacePart(part, fresh, focusedKey) {
  const opened = [...part.querySelectorAll("details[open]")].map((details) => details.dataset.key);
  part.replaceWith(fresh);
  for (const details of fresh.querySelectorAll("details[data-key]")) {
    const { key } = details.dataset;
    details.open = opened.includes(key);
    if (key === focusedKey) details.querySelector("summary").focus({ preventScroll: true });
  }
}

// Asks for the page itself: the gateway has no stream for it, or none is free, or the session is over.
async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.redirected) {
    location.assign(answer.url);
    return;
  }
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of page.querySelectorAll("[data-live]")) wanted.set(part.dataset.live, part.outerHTML);
  showParts();
}

class Tail {
  #lines = tail.querySelector("ol");
  #state = tail.querySelector("[data-tail-state]");
  #pause = tail.querySelector("button");
  #missed = 0;

  constructor() {
    this.#state.textContent = "No message yet.";
    this.#pause.hidden = false;
    this.#pause.addEventListener("click", () => this.#toggle());
  }

  get #paused() {
    return this.#pause.getAttribute("aria-pressed") === "true";
  }

  #toggle() {
    this.#pause.setAttribute("aria-pressed", String(!this.#paused));
    this.#pause.textContent = this.#paused ? "Continue" : "Pause";
    this.#state.textContent = this.#paused ? "Paused." : "";
    this.#missed = 0;
  }

  show({ lines, further }) {
    if (this.#paused) {
      this.#missed += lines.length;
      const messages = this.#missed === 1 ? "message" : "messages";
      this.#state.textContent = `Paused. At least ${this.#missed} ${messages} since then.`;
      return;
    }
    this.#state.textContent = "";
    this.#lines.hidden = false;
    const isAtEnd = this.#lines.scrollHeight - this.#lines.scrollTop - this.#lines.clientHeight < 40;
    for (const { outcome, line } of lines) this.#add(outcome, line);
    if (further) this.#add("further", further);
    while (this.#lines.childElementCount > MAX_LINES) this.#lines.firstElementChild.remove();
    if (isAtEnd) this.#lines.scrollTop = this.#lines.scrollHeight;
  }

  #add(outcome, line) {
    const item = document.createElement("li");
    item.className = outcome;
    item.textContent = line;
    this.#lines.append(item);
  }
}

let source = null;
let timer = null;
const messages = tail && new Tail();

function open() {
  clearTimeout(timer);
  if (source || document.hidden) return;
  source = new EventSource(`/live?page=${encodeURIComponent(location.pathname + location.search)}`);
  source.addEventListener("part", (event) => {
    const { name, html } = JSON.parse(event.data);
    wanted.set(name, html);
    showParts();
  });
  source.addEventListener("tail", (event) => messages?.show(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    // After a lost connection the browser tries again by itself. A refusal is final.
    if (source?.readyState === EventSource.CLOSED) {
      close();
      timer = setTimeout(() => refresh().catch(() => {}).finally(open), RETRY_MS);
    }
  });
}

function close() {
  source?.close();
  source = null;
}

// A second click would send a form twice, and its answer would replace the first one, such as a token that is shown once.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  // The browser may be stopped, or come back to this page.
  setTimeout(() => delete form.dataset.sent, REPEAT_MS);
});

if (parts.length || tail) {
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  document.addEventListener("focusout", () => setTimeout(showParts));
  // A page in the cache of the browser keeps no connection.
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
}

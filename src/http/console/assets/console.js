// Keeps the parts of a page with `data-live` up to date while the page is visible. Without this script a page shows
// the state of its loading.

const INTERVAL_MS = 5000;

const selector = "[data-live]";

async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.redirected) {
    // The session has ended.
    location.assign(answer.url);
    return;
  }
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll(selector)) {
    const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
    // A part with the focus would lose it.
    if (next && !part.contains(document.activeElement)) part.replaceWith(document.adoptNode(next));
  }
}

async function keepFresh() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    // The gateway may be restarting: the next turn tries again.
    if (!document.hidden) await refresh().catch(() => {});
  }
}

if (document.querySelector(selector)) keepFresh();

// The page works without this. It renews what is shown when the server says that it has changed, and adds keys.
"use strict";
const main = () => document.querySelector("main");
const light = document.querySelector(".live");
const here = () => location.pathname + location.search;

// A reader who has opened a detail, types or selects is not disturbed.
const busy = () =>
  main().querySelector("details[open]") || main().contains(document.activeElement) && document.activeElement.matches("input, textarea, select")
  || String(getSelection()) !== "" || document.hidden;

async function renew() {
  if (busy()) { setTimeout(renew, 2000); return; }
  const answer = await fetch(here(), { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  if (next) main().replaceWith(document.importNode(next, true));
}

if (light && document.body.dataset.live) {
  const source = new EventSource(document.body.dataset.live + "?of=" + encodeURIComponent(document.body.dataset.of));
  source.addEventListener("open", () => light.classList.add("on"));
  source.addEventListener("error", () => light.classList.remove("on"));
  source.addEventListener("changed", renew);
  addEventListener("pagehide", () => source.close());
}

addEventListener("keydown", (event) => {
  if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const link = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!link) return;
  event.preventDefault();
  if (link.matches("input")) link.focus(); else link.click();
});

// What the pages do beyond plain HTML: local times, live logs, live regions, Copy. Every page works
// without it.
"use strict";
document.body.classList.remove("no-script");

// Dates in the reader's zone; what is relative stays relative.
function localTimes(root) {
  const format = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  for (const time of root.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    if (time.textContent.endsWith(" UTC")) time.textContent = format.format(at);
    time.title = `${format.format(at)} (${time.dateTime})`;
  }
}

// Appends what a stream sends to a log, or rewrites lines that it sends again.
function followLog(log) {
  const follow = log.parentElement.querySelector(".follow input");
  const pinned = () => !follow || follow.checked;
  const settle = () => { if (pinned()) log.scrollTop = log.scrollHeight; };
  const source = new EventSource(log.dataset.stream);
  const lines = new Map([...log.querySelectorAll("[data-line]")].map((line) => [Number(line.dataset.line), line]));
  let decoderEnd = Number(log.dataset.end || 0);
  source.addEventListener("line", (event) => {
    const { number, text, level } = JSON.parse(event.data);
    let line = lines.get(number);
    if (!line) {
      line = document.createElement("div");
      line.dataset.line = number;
      line.append(document.createElement("span"), document.createElement("span"));
      line.firstChild.textContent = number + 1;
      log.append(line);
      lines.set(number, line);
    }
    line.lastChild.textContent = text.replace(/\x1b\[[0-9;?]*[ -/]*[@-~]/g, "");
    line.classList.toggle("err", level === "error");
    log.hidden = false;
    settle();
  });
  source.addEventListener("output", (event) => {
    const { offset, text } = JSON.parse(event.data);
    if (offset < decoderEnd) return;
    decoderEnd = offset + 1;
    log.append(text.replace(/\x1b\[[0-9;?]*[ -/]*[@-~]/g, ""));
    log.hidden = false;
    settle();
  });
  source.addEventListener("end", () => { source.close(); refresh(); });
  // Scrolling up ends following; scrolling to the end resumes it.
  log.addEventListener("scroll", () => {
    if (follow) follow.checked = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  });
  if (follow) follow.addEventListener("change", settle);
  settle();
}

// Replaces the live regions by those of a fresh copy of the page.
let refreshing = false;
async function refresh() {
  if (refreshing || document.hidden) return;
  refreshing = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const region of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(region.id);
      if (!next || region.contains(document.activeElement)) continue;
      region.replaceWith(next);
      localTimes(next);
    }
    if (!fresh.querySelector("main[data-refresh]")) stop();
  } catch {
    // The next turn tries again.
  } finally {
    refreshing = false;
  }
}
let stop = () => {};

const main = document.querySelector("main[data-refresh]");
if (main) {
  const timer = setInterval(refresh, Number(main.dataset.refresh) * 1000);
  let events;
  if (main.dataset.events) {
    events = new EventSource(main.dataset.events);
    events.onmessage = refresh;
    for (const kind of (main.dataset.kinds || "").split(" ")) if (kind) events.addEventListener(kind, refresh);
  }
  stop = () => { clearInterval(timer); if (events) events.close(); };
}
for (const log of document.querySelectorAll("[data-stream]")) followLog(log);
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = button.dataset.done;
  });
}
localTimes(document);

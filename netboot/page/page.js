// Keeps the page as the rack is: asks every two seconds for what changes, and not while nobody looks.
"use strict";
(() => {
  const part = document.getElementById("part");
  const lost = document.getElementById("lost");
  const where = location.pathname + "?part";
  let tag = part.dataset.tag;
  let timer = 0;

  async function look() {
    clearTimeout(timer);
    if (document.hidden) return;
    try {
      const answer = await fetch(where, {
        headers: { "If-None-Match": tag },
        cache: "no-store",
        signal: AbortSignal.timeout(5000),
      });
      if (answer.status === 401) return location.reload();
      if (answer.status !== 304) {
        if (!answer.ok) throw new Error(String(answer.status));
        const text = await answer.text();
        const focus = document.activeElement && document.activeElement.getAttribute("href");
        part.innerHTML = text;
        tag = answer.headers.get("ETag") || "";
        if (focus) part.querySelector(`a[href="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
      }
      lost.hidden = true;
    } catch {
      lost.textContent = "The server does not answer; this is what it said last.";
      lost.hidden = false;
    }
    timer = setTimeout(look, 2000);
  }

  document.addEventListener("visibilitychange", look);
  timer = setTimeout(look, 2000);
})();

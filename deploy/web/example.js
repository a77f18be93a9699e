// The module in a page without a framework: a list, a badge, and a word about the connection.
import { connect } from "/api/notifications/client.js";

const list = document.querySelector("#notifications"), badge = document.querySelector("#unread"), status = document.querySelector("#status");

function put(n) {
  const item = list.querySelector(`[data-id="${n.id}"]`) ?? list.insertBefore(document.createElement("li"), list.firstChild);
  item.dataset.id = n.id;
  item.textContent = n.title;
  item.classList.toggle("read", n.is_read);
  badge.textContent = list.querySelectorAll("li:not(.read)").length;
}

connect({
  replay: "unread", changes: true, // the list is what is unread; a CRM with a list of its own loads it on "live"
  onNotification: put,
  onUpdated: put,
  onRemoved: (id) => list.querySelector(`[data-id="${id}"]`)?.remove(),
  onReset: () => location.reload(),
  onState(state, detail) { status.textContent = state === "live" ? "" : `${state} ${detail}`; },
});

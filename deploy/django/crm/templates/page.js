// The page: a list that the CRM's API gives, kept up to date by the stream.
import { connect } from "/api/notifications/client.js";

const find = (selector) => document.querySelector(selector);
const session = "{{ user.pk|default_if_none:'' }}" !== ""; // signed in by a session of Django: no token is needed
let tokens = JSON.parse(localStorage.getItem("tokens"));

async function api(method, path, body) {
  const headers = { "Content-Type": "application/json", "X-CSRFToken": /csrftoken=([^;]*)/.exec(document.cookie)?.[1] ?? "" };
  if (!session) headers.Authorization = `Bearer ${tokens.access}`;
  const response = await fetch(`/api/${path}`, { method, headers, body: body && JSON.stringify(body) });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

function put(n) {
  const list = find("#notifications");
  const item = list.querySelector(`[data-id="${n.id}"]`) ?? list.insertBefore(document.createElement("li"), list.firstChild);
  item.dataset.id = n.id;
  item.className = n.is_read ? "read" : "unread";
  item.textContent = n.title;
  item.onclick = () => api("POST", `notifications/${n.id}/read/`);
}

async function loadList() {
  const rows = await api("GET", "notifications/");
  find("#notifications").replaceChildren();
  rows.reverse().forEach(put);
}

// Access tokens of SimpleJWT live for five minutes; the refresh token gives another.
async function token(refused) {
  if (refused) {
    const response = await fetch("/api/token/refresh/", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ refresh: tokens.refresh }) });
    if (!response.ok) return null;
    tokens = { ...tokens, ...(await response.json()) };
    localStorage.setItem("tokens", JSON.stringify(tokens));
  }
  return tokens.access;
}

function start() {
  find("#login").hidden = true;
  connect({
    ...(session ? { user: "{{ user.pk }}" } : { token }),
    changes: true, count: true,
    onNotification: put,
    onUpdated: put,
    onRemoved: (id) => find(`#notifications [data-id="${id}"]`)?.remove(),
    onUnread: (count, more) => { find("#unread").textContent = count + (more ? "+" : ""); },
    onReset: loadList,
    onState(state, detail) {
      find("#status").textContent = `${state} ${detail ?? ""}`;
      if (state === "live") loadList();
    },
  });
}

find("#login").onsubmit = async (event) => {
  event.preventDefault();
  const response = await fetch("/api/token/", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(Object.fromEntries(new FormData(event.target))) });
  if (!response.ok) return void (find("#status").textContent = "wrong name or password");
  tokens = await response.json();
  localStorage.setItem("tokens", JSON.stringify(tokens));
  start();
};
find("#all").onclick = () => api("POST", "notifications/read/");
if (session || tokens) start();

// A page as an application would write it, which remembers all that it was given.
import { connect } from "/api/notifications/client.js";

const q = new URLSearchParams(location.search);
const o = JSON.parse(q.get("o") ?? "{}");
Object.assign(window, { got: {}, order: [], states: [], resets: [], updated: [], removed: [], unread: [], asked: [], list: null });

const token = async (refused) => {
  asked.push(refused);
  const r = await fetch(`/token?user=${q.get("as")}&refused=${refused}`);
  if (!r.ok) throw new Error(`token: ${r.status}`);
  return r.status === 204 ? null : r.text();
};
if (q.has("cookie")) {
  if (q.get("cookie") === "login") {
    await fetch("/api/notifications/session/", { method: "POST", headers: { Authorization: `Bearer ${await token(false)}` } });
  }
} else {
  o.token = token;
}
window.feed = connect({
  ...o,
  onNotification(n) { got[n.id] = (got[n.id] ?? 0) + 1; order.push(n.id); window.wrong ||= n.user !== Number(q.get("as")); },
  onUpdated(n) { updated.push(n); },
  onRemoved(id) { removed.push(id); },
  onUnread(count, more) { unread.push([count, more]); },
  onReset(reason) { resets.push(reason); },
  async onState(state, detail) {
    states.push(detail ? `${state} ${detail}` : state);
    if (state === "live" && q.has("list") && !list) list = await (await fetch(`/list?user=${q.get("as")}`)).json();
  },
});

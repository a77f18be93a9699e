"use strict";

const API = "/api/notifications"; // in a CRM; here each user has a path of its own, see page.go
const KEEP = 100; // notifications shown for each user
const KINDS = { task_assignment: "Task", lead_assignment: "Lead", task_reminder: "Reminder" };

/** One user's panel: a live EventSource and what came through it. */
class Panel {
  constructor({ id, name, role, token }) {
    this.user = id;
    this.name = name;
    this.token = token; // what the CRM's login gave
    this.api = `/users/${id}${API}`;
    this.unread = 0;
    this.events = 0;
    this.seen = new Set(); // a duplicate has the same notification id
    this.last = ""; // the last event ID, for an EventSource of its own
    this.lostAt = 0;
    this.caughtUp = 0;
    this.root = document.getElementById("panel").content.cloneNode(true).firstElementChild;
    this.root.id = `user-${id}`;
    this.$("h2").textContent = name;
    this.$(".role").textContent = role;
    this.$(".avatar").textContent = name.split(" ").map((w) => w[0]).join("");
    this.root.setAttribute("aria-label", name);
    for (const b of this.root.querySelectorAll("button[data-kind]")) {
      b.addEventListener("click", () => this.post("insert", { kind: b.dataset.kind, count: Number(b.dataset.count || 1) }));
    }
    this.$(".cut").addEventListener("click", () => this.post("cut", {}));
    this.$(".badge").addEventListener("click", () => this.count(-this.unread));
    document.getElementById("panels").append(this.root);
    this.login();
  }

  $(selector) { return this.root.querySelector(selector); }

  /** Turns the token into a cookie that no script can read, then opens the stream without it. */
  async login() {
    try {
      const answer = await fetch(`${this.api}/session/`, { method: "POST", headers: { Authorization: `Bearer ${this.token}` } });
      if (!answer.ok) throw new Error((await answer.json()).error);
      this.connect();
    } catch (e) {
      this.state("cut", `no session: ${e.message} – trying again…`);
      setTimeout(() => this.login(), 3000);
    }
  }

  /** EventSource resumes by itself; a new one begins where the last one was. */
  connect() {
    const source = new EventSource(`${this.api}/stream/` + (this.last && `?last_event_id=${encodeURIComponent(this.last)}`));
    source.addEventListener("connected", (e) => this.connected(e));
    source.addEventListener("notification", (e) => this.notification(e));
    source.addEventListener("ping", (e) => this.show(e));
    source.addEventListener("reset", (e) => {
      this.show(e);
      this.state("live", "live – what was missed is unknown: a page would reload its list");
    });
    source.addEventListener("error", (e) => {
      if (e.data) { // the stream's own error event
        this.show(e);
        return;
      }
      if (!this.lostAt) this.lostAt = Date.now();
      this.state("cut", "connection lost – coming back…");
      // Any answer but 200 ends an EventSource: the token has expired, or the server is full or starting.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.login(), 3000);
    });
  }

  connected(e) {
    this.show(e);
    if (!this.lostAt) {
      this.state("live", "live");
      return;
    }
    this.resumedAfter = Date.now() - this.lostAt;
    this.resumedAt = Date.now();
    this.lostAt = 0;
    this.caughtUp = 0;
    this.resumed();
  }

  resumed() {
    const seconds = (this.resumedAfter / 1000).toFixed(1);
    this.state("live", `live – resumed after ${seconds} s, ${this.caughtUp} caught up`);
  }

  notification(e) {
    this.show(e);
    const n = JSON.parse(e.data);
    if (this.seen.has(n.id)) return;
    this.seen.add(n.id);
    const age = Date.now() - Date.parse(n.created_at);
    const replayed = this.resumedAt !== undefined && Date.parse(n.created_at) < this.resumedAt;
    if (replayed) {
      this.caughtUp++;
      this.resumed();
    }
    this.count(1);
    this.add(n, age, replayed);
    toast(this.name, n.title);
  }

  add(n, age, replayed) {
    const item = document.getElementById("item").content.cloneNode(true).firstElementChild;
    item.classList.add(n.notification_type);
    item.classList.toggle("replayed", replayed);
    item.dataset.id = n.id;
    const put = (selector, text) => { item.querySelector(selector).textContent = text; };
    put(".kind", `${KINDS[n.notification_type] || n.notification_type} #${n.id}`);
    put(".ms", replayed ? "caught up" : `${Math.max(0, age)} ms from insert to screen`);
    put(".title", n.title);
    put(".message", n.message);
    put(".facts", facts(n));
    const list = this.$(".list");
    list.querySelector(".empty")?.remove();
    list.prepend(item);
    while (list.children.length > KEEP) list.lastElementChild.remove();
  }

  count(by) {
    this.unread += by;
    const badge = this.$(".badge");
    badge.textContent = this.unread;
    badge.classList.toggle("some", this.unread > 0);
  }

  state(name, text) {
    const state = this.$(".state");
    state.className = `state ${name}`;
    state.querySelector(".text").textContent = text;
  }

  show(e) {
    this.last = e.lastEventId || this.last;
    this.events++;
    this.$(".count").textContent = `${this.events} events`;
    this.$(".raw").textContent = `id: ${e.lastEventId}\nevent: ${e.type}\ndata: ${e.data}`;
  }

  async post(what, body) {
    const answer = await fetch(`/demo/${what}`, { method: "POST", body: JSON.stringify({ user: this.user, ...body }) });
    if (!answer.ok) toast(this.name, await answer.text());
  }
}

function facts(n) {
  const out = [];
  if (n.task_data) out.push(`${n.task_data.priority} priority`, `due ${n.task_data.due_date ?? "–"} ${n.task_data.due_time ?? ""}`);
  if (n.lead_data) out.push(n.lead_data.company_name, n.lead_data.email_address, n.lead_data.status);
  if (n.reminder_data) out.push(`reminded ${new Date(n.reminder_data.remind_at).toLocaleTimeString()}`);
  return out.join(" · ");
}

function toast(who, text) {
  const box = document.getElementById("toasts");
  const t = document.createElement("div");
  t.className = "toast";
  const name = document.createElement("b");
  name.textContent = who;
  t.append(name, text);
  box.append(t);
  while (box.children.length > 3) box.firstElementChild.remove();
  setTimeout(() => t.remove(), 4000);
}

(async () => {
  const people = await (await fetch("/demo/people")).json();
  for (const person of people) new Panel(person);
})();

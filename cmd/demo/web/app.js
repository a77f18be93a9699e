import { connect } from "/api/notifications/client.js";

const KEEP = 100; // notifications and happenings shown for each user
const KINDS = { task_assignment: "Task", lead_assignment: "Lead", task_reminder: "Reminder" };

const clock = (at = Date.now()) => new Date(at).toLocaleTimeString("en-GB") + "." + String(new Date(at).getMilliseconds()).padStart(3, "0");
const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

/** Asks the demo's CRM. */
async function ask(what, body) {
  const answer = await fetch(`/demo/${what}`, body && { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

/** One user's panel: what the module gave it, and what became of each notification. */
class Panel {
  constructor({ id, name, role }, demo) {
    this.user = id;
    this.name = name;
    this.demo = demo;
    this.items = new Map(); // notification ID → its element
    this.lostAt = 0; // when the stream ended, while it has not come back
    this.caughtUp = 0;
    this.root = document.getElementById("panel").content.cloneNode(true).firstElementChild;
    this.root.id = `user-${id}`;
    this.$("h2").textContent = name;
    this.$(".role").textContent = role;
    this.$(".avatar").textContent = name.split(" ").map((w) => w[0]).join("");
    this.root.setAttribute("aria-label", name);
    for (const b of this.root.querySelectorAll("button[data-kind]")) {
      b.addEventListener("click", () => this.insert(b.dataset.kind, Number(b.dataset.count || 1)));
    }
    this.$(".cut").addEventListener("click", () => this.cut());
    this.$(".expire").addEventListener("click", () => this.expire());
    document.getElementById("panels").append(this.root);
    this.feed = connect({
      base: `/users/${id}/api/notifications`, // in a CRM the default; here each user has a line to cut
      user: `demo ${id}`,
      token: async (refused) => {
        if (refused) this.note("the token is about to expire: a new one, then the next stream");
        return (await ask(`token?user=${id}`)).token;
      },
      replay: "unread",
      changes: true,
      onNotification: (n) => this.arrived(n),
      onUpdated: (n) => this.updated(n),
      onRemoved: (id) => this.gone(id),
      onReset: (reason) => this.note(`reset: ${reason} – a page reloads its list now`),
      onState: (state, detail) => this.state(state, detail),
    });
    setInterval(() => { this.$(".share").textContent = this.feed.leading ? "this tab holds the stream" : "through another tab"; }, 500);
  }

  $(selector) { return this.root.querySelector(selector); }

  async act(text, what, body) {
    try {
      const answer = await ask(what, { user: this.user, ...body });
      if (text) this.note(text);
      return answer;
    } catch (e) {
      this.note(`${what}: ${e.message}`, "bad");
      return undefined;
    }
  }

  async insert(kind, count) {
    const began = Date.now();
    const answer = await this.act("", "insert", { kind, count });
    if (!answer) return;
    const ids = answer.ids, what = ids.length > 1 ? `#${ids[0]} to #${ids.at(-1)}` : `#${ids[0]}`;
    this.note(`${what} committed`, "", began);
  }

  async cut() {
    if (!await this.act("the line is cut", "cut", {})) return;
    this.$(".cut").disabled = true;
    const until = Date.now() + this.demo.cut * 1000;
    const show = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      if (left > 0 && this.lostAt) this.say("cut", `cut for ${left} s more: press Assign task or Burst now, it comes afterwards`);
      if (left > 0) return;
      clearInterval(timer);
      this.$(".cut").disabled = false;
      if (this.lostAt) this.say("cut", "the line is back: the module tries again…");
    };
    const timer = setInterval(show, 250);
    show();
  }

  async expire() {
    await this.act(`the next token lasts ${this.demo.token} s: watch that nothing stops`, "expire", {});
  }

  state(state, detail) {
    if (state === "live") {
      if (this.lostAt) {
        this.away = Date.now() - this.lostAt;
        this.resumedAt = Date.now();
        this.lostAt = this.caughtUp = 0;
        this.note(`live again after ${seconds(this.away)}, from the last event ID`, "good");
        this.resumed();
      } else {
        this.say("live", "live");
        this.note("live", "good");
      }
      return;
    }
    if (!this.lostAt && this.feed) {
      this.lostAt = Date.now();
      this.note(`no stream: ${detail || state}`, "bad");
    }
    if (!this.$(".cut").disabled) this.say(state === "connecting" ? "connecting" : "cut", `${state} ${detail}`);
  }

  resumed() { this.say("live", `live – back after ${seconds(this.away)}, ${this.caughtUp} caught up`); }

  say(name, text) {
    const state = this.$(".state");
    state.className = `state ${name}`;
    state.querySelector(".text").textContent = text;
  }

  arrived(n) {
    const created = Date.parse(n.created_at), now = Date.now();
    const replayed = !this.resumedAt ? now - created > 2000 : created < this.resumedAt;
    if (replayed && this.resumedAt) {
      this.caughtUp++;
      this.resumed();
    }
    this.note(replayed ? `#${n.id} caught up, ${seconds(now - created)} after its insert` : `#${n.id} on screen`, "good");
    this.put(n, replayed ? `caught up after ${seconds(now - created)}` : `${Math.max(0, now - created)} ms from insert to screen`);
    if (!replayed) toast(this.name, n.title);
  }

  put(n, ms) {
    const item = document.getElementById("item").content.cloneNode(true).firstElementChild;
    item.classList.add(n.notification_type);
    item.classList.toggle("replayed", ms.startsWith("caught"));
    item.classList.toggle("seen", n.is_read);
    const put = (selector, text) => { item.querySelector(selector).textContent = text; };
    put(".kind", `${KINDS[n.notification_type] || n.notification_type} #${n.id}`);
    put(".ms", ms);
    put(".title", n.title);
    put(".message", n.message);
    put(".facts", facts(n));
    const read = item.querySelector(".read");
    read.setAttribute("aria-label", `Mark as read: ${n.title}`);
    read.addEventListener("click", async () => {
      if (await this.act(`#${n.id} marked as read here`, "read", { id: n.id })) this.read(n.id);
    });
    const list = this.$(".list");
    list.querySelector(".empty")?.remove();
    this.items.get(n.id)?.remove();
    list.prepend(item);
    this.items.set(n.id, item);
    while (list.children.length > KEEP) list.lastElementChild.remove();
    this.count();
  }

  read(id) {
    const item = this.items.get(id);
    if (!item || item.classList.contains("seen")) return;
    item.classList.add("seen");
    if (item.contains(document.activeElement)) this.$(".list").focus();
    this.count();
  }

  updated(n) {
    if (n.is_read && !this.items.get(n.id)?.classList.contains("seen")) this.note(`#${n.id} was marked as read in another tab`);
    if (n.is_read) this.read(n.id);
  }

  gone(id) {
    this.items.get(id)?.remove();
    this.items.delete(id);
    this.note(`#${id} was removed`);
    this.count();
  }

  count() {
    const unread = this.root.querySelectorAll(".item:not(.seen)").length, badge = this.$(".badge");
    badge.textContent = unread;
    badge.classList.toggle("some", unread > 0);
  }

  /** Writes a line into the timeline. */
  note(text, kind = "", at = Date.now()) {
    const line = document.createElement("li"), time = document.createElement("time");
    line.className = kind;
    time.textContent = clock(at);
    line.append(time, text);
    const timeline = this.$(".timeline");
    timeline.prepend(line);
    while (timeline.children.length > KEEP) timeline.lastElementChild.remove();
    this.$(".count").textContent = `${text} · ${clock(at)}`;
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
  while (box.children.length > 2) box.firstElementChild.remove();
  setTimeout(() => t.remove(), 4000);
}

const demo = await ask("people");
const panels = demo.people.map((person) => new Panel(person, demo));
const system = {
  postgres: { begin: "Postgres is restarted…", end: (a) => `Postgres was away for ${seconds(a.ms)}` },
  replica: { begin: "a replica is killed…", end: (a) => `replica ${a.number} was killed, and runs again` },
};
for (const button of document.querySelectorAll("[data-system]")) {
  const what = button.dataset.system;
  if (!demo.own) button.hidden = true; // others run these
  button.addEventListener("click", async () => {
    const say = (text) => {
      document.getElementById("system").textContent = text;
      for (const panel of panels) panel.note(text);
    };
    button.disabled = true;
    say(system[what].begin);
    try {
      say(system[what].end(await ask(what, {})));
    } catch (e) {
      say(e.message);
    }
    button.disabled = false;
    button.focus();
  });
}
window.panels = panels;

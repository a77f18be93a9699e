// One event stream for all tabs of a user. The tab that leads holds a Web Lock,
// reads the stream and posts each event on a BroadcastChannel; the others follow.

/** @typedef {{code: string, status?: number, detail?: string, wait?: number}} End why a stream ended */

const TICK = 2000; // ms between looks at the clock
const ASK = 4000; // ms without a word of the leader: a follower asks
const DEAD = 3000; // ms without an answer: it takes over
const SILENCE = 75000; // ms without a word of the server, until two pings came
const LONG = 10000; // ms: such a stream was a success
const ROWS = 1000; // that a tab remembers
const EVENTS = ["connected", "notification", "updated", "removed", "refresh", "unread", "ping", "reset", "error"];

/** @param {string} token */
function claims(token) {
  try {
    const bytes = atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (c) => c.charCodeAt(0))));
  } catch {
    return undefined;
  }
}

const rest = (ms, signal) => new Promise((done) => {
  const timer = setTimeout(end, ms);
  function end() {
    clearTimeout(timer);
    globalThis.removeEventListener?.("online", end);
    done(undefined);
  }
  globalThis.addEventListener?.("online", end);
  signal.addEventListener("abort", end, { once: true });
});

const pause = (failures) => Math.min(30000, 500 * 2 ** failures) * (0.5 + Math.random() / 2);

/** @param {Response} r @returns {Promise<End>} */
async function failure(r) {
  const body = await r.json().catch(() => ({}));
  const code = body.code ?? `HTTP ${r.status}`;
  return { code, status: r.status, detail: body.error ? `${code}: ${body.error}` : code, wait: Number(r.headers.get("Retry-After")) * 1000 || 0 };
}

/** WHATWG HTML, section 9.2.6. @param {ReadableStream<Uint8Array>} body @param {(e: any) => Promise<End|undefined>} on */
async function parse(body, on) {
  const reader = body.getReader(), decoder = new TextDecoder();
  let text = "", id = "", event = "", retry, data;
  for (;;) {
    const chunk = await reader.read();
    if (chunk.done) return { code: "cut" };
    const lines = (text + decoder.decode(chunk.value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
    text = lines.pop();
    for (const line of lines) {
      if (line === "") {
        const end = data !== undefined && await on({ event, data, id, retry });
        event = "", retry = data = undefined;
        if (end) return end;
      }
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (name === "data") data = data === undefined ? value : `${data}\n${value}`;
      else if (name === "event") event = value;
      else if (name === "id") id = value;
      else if (name === "retry") retry = Number(value);
    }
  }
}

/** @param {import("./client.d.ts").Options} o @returns {import("./client.d.ts").Feed} */
export function connect(o) {
  const base = (o.base ?? "/api/notifications").replace(/\/$/, "");
  const wished = new URLSearchParams();
  if (o.types?.length) wished.set("types", [...o.types].join(","));
  if (o.changes) wished.set("changes", "true");
  if (o.count) wished.set("count", "true");
  const room = `${wished}`; // tabs that wish for other events have another stream
  const able = !!globalThis.navigator?.locks && "BroadcastChannel" in globalThis;
  let share = able && o.share !== false;

  let state = "", detail = "";
  const rows = new Map(); // ID → [its last state, the stream that brought it]
  let user, unread = "", last = ""; // last: the last event ID
  let name = "", channel, queued, leading; // queued: waits for the lock; leading: holds it
  let epoch = 0, from = null; // when the present leader began, and the place that it began at
  let place = [0, 0]; // the leader and the number of the event that this tab had last
  let behind = false, heard = 0, asked = 0, replayed = !o.replay, stealing;
  const life = new AbortController();
  let ready = false, running = false, frozen = false, ended = false;

  const call = (f, ...args) => {
    try { f?.(...args); } catch (e) { setTimeout(() => { throw e; }); } // the page's fault stays the page's
  };
  const post = (m) => channel?.postMessage({ room, epoch, from, n: place[1], user, state, detail, last, unread, ...m });
  function show(s, d = "") {
    if (s === state && d === detail) return;
    state = s, detail = d;
    call(o.onState, s, d);
  }
  function say(s, d) {
    show(s, d);
    post();
  }
  function stop(s, d) {
    if (ended) return;
    ended = true;
    settle();
    life.abort();
    clearInterval(ticking);
    for (const [target, type] of watched) target?.removeEventListener?.(type, look);
    channel?.close();
    show(s, d);
  }

  /** Gives the page what came, in every tab. */
  function deliver({ event, data, at }) {
    const v = JSON.parse(data);
    if (event === "reset" || event === "refresh") return call(o.onReset, event === "refresh" ? event : v.reason);
    if (event === "unread") {
      if (data !== unread) call(o.onUnread, v.count, !!v.more);
      unread = data;
      return;
    }
    // What another stream has brought already is dropped.
    const had = rows.get(v.id);
    rows.delete(v.id);
    rows.set(v.id, [data, at]);
    if (rows.size > ROWS) rows.delete(rows.keys().next().value);
    if (had && had[0] === data && had[1] !== at) return;
    if (event === "removed") call(o.onRemoved, v.id);
    else call(event === "updated" ? o.onUpdated : o.onNotification, v);
  }

  /** Opens one stream after the other, until it is aborted or refused. */
  async function run(signal, query, take, tell) {
    let failures = 0, refused = false, silence = SILENCE, next, one;
    const drop = () => one?.abort();
    for (const s of [signal, life.signal]) s.addEventListener("abort", drop);
    while (!signal.aborted) {
      one = new AbortController();
      const at = `${Math.random()}`; // names the stream
      let end, why, renewal, live = 0, got = Date.now(), ping = 0, bearer;
      const cut = (code) => { why = { code }; drop(); };
      const watch = setInterval(() => Date.now() - got > silence && cut("silent"), TICK);
      const again = refused;
      const on = async ({ event, data, id, retry }) => {
        if (!EVENTS.includes(event)) return; // of a later gateway
        const v = JSON.parse(data);
        got = Date.now();
        if (event === "error") return { code: v.code, detail: `${v.code}: ${v.message}`, wait: retry };
        if (event === "connected") live = got;
        if (event === "ping") { // by the server's clock: a tab that was busy gets several at once
          const t = Date.parse(v.timestamp);
          if (ping && t > ping) silence = 2.5 * (t - ping);
          ping = t;
        }
        await take({ event, data, id, v, at });
        return signal.aborted ? { code: "" } : undefined;
      };
      const renew = async () => {
        let token;
        try { token = await o.token(true); } catch { return; }
        if (!renewal || token === bearer) return; // late, or the old one
        next = token;
        cut("renewed");
      };
      try {
        const [q, cursor] = query();
        if (o.token) {
          bearer = next ?? await o.token(refused);
          next = undefined, refused = false;
          if (!bearer) return stop("signed-out");
          const headers = { Accept: "text/event-stream", Authorization: `Bearer ${bearer}` };
          if (cursor) headers["Last-Event-ID"] = cursor;
          const r = await fetch(`${base}/stream/?${q}`, { headers, cache: "no-store", signal: one.signal });
          if (!r.ok || !r.headers.get("Content-Type")?.startsWith("text/event-stream")) {
            end = await failure(r);
          } else {
            const exp = claims(bearer)?.exp * 1000 - (Date.parse(r.headers.get("Date")) || Date.now());
            if (exp > 0 && exp < 2e9) renewal = setTimeout(renew, exp - 1000 - Math.min(30000, exp / 5));
            end = await parse(r.body, on);
          }
        } else {
          q.set("unavailable", "retry");
          if (cursor) q.set("last_event_id", cursor);
          end = await bySource(`${base}/stream/?${q}`, on, one.signal);
        }
      } catch (e) {
        end = { code: "network", detail: `${e}` };
      }
      clearInterval(watch);
      renewal = clearTimeout(renewal);
      drop();
      if (signal.aborted || ended) return;
      end = why ?? end;
      if (end.code === "renewed") continue;
      if (end.code === "signed_out") return signOut();
      if (end.status === 401 && !o.token) return stop("signed-out", end.detail);
      if (end.status === 400 || end.status === 403 || (end.status === 401 && again)) return stop("refused", end.detail);
      failures = live && Date.now() - live > LONG ? 0 : failures + 1;
      refused ||= end.status === 401 || end.code === "token_expired" || end.code === "revoked";
      tell("connecting", end.detail ?? end.code);
      if (failures < 3 && (end.status === 401 || end.code === "token_expired" || end.code === "silent")) continue;
      const least = end.wait || (end.code === "replaced" ? 60000 : 0);
      await rest(least ? least * (1 + Math.random() / 2) : pause(failures), signal);
    }
  }

  /** EventSource does not tell an error's status. */
  const bySource = (url, on, signal) => new Promise((done) => {
    const source = new EventSource(url, { withCredentials: true });
    let order = Promise.resolve(), unavailable = false;
    const end = (why) => { source.close(); order.then(() => done(why)); };
    signal.addEventListener("abort", () => end({ code: "" }));
    for (const event of EVENTS) {
      source.addEventListener(event, (e) => {
        if (e.data === undefined) { // the browser's own error event
          if (source.readyState === 2) { // EventSource.CLOSED: any status but 200
            end(fetch(url, { credentials: "include", cache: "no-store", signal }).then((r) => r.ok ? { code: "cut" } : failure(r), () => ({ code: "network" })));
          } else if (!unavailable) end({ code: "cut" });
          return;
        }
        // The browser comes back when the stream said.
        unavailable = event === "error" && JSON.parse(e.data).code === "unavailable";
        if (unavailable) say("connecting", "unavailable");
        else order = order.then(() => on({ event, data: e.data, id: e.lastEventId })).then((why) => { if (why) end(why); });
      });
    }
  });

  async function lead(signal) {
    let sure = 0, stale = "", listing = false; // listing: the unread come
    from = last ? place : null;
    epoch = Math.max(Date.now(), epoch + 1);
    place = [epoch, 0];
    behind = false;
    say(state === "live" ? "live" : "connecting");
    await run(signal, () => {
      const q = new URLSearchParams(wished);
      if (!last && o.replay) q.set("replay", o.replay);
      return [q, last];
    }, async ({ event, data, id, v, at }) => {
      if (share && Date.now() - sure > TICK) { // a tab that hung may have lost the lock: that is known after this
        await navigator.locks.query().catch(() => {});
        sure = Date.now();
      }
      if (signal.aborted) return;
      if (event === "connected") {
        if (user !== undefined && v.user !== user) {
          if (share) return leave();
          call(o.onReset, "user");
          rows.clear();
        }
        user = v.user;
        stale = !last && o.replay ? id : ""; // until its replay has ended, this stream proves nothing
        listing = !!stale;
        if (stale) replayed = true;
        if (id !== stale) last = id;
        show("live");
        return post({ replays: listing });
      }
      if (id !== stale) last = id;
      const by = listing ? `${at}?` : at;
      listing &&= id === stale;
      if (event === "ping") return post();
      place[1]++;
      post({ event, data, at: by });
      deliver({ event, data, at: by });
    }, say);
  }

  /** Waits for the lock, or takes it. */
  function contend(steal) {
    queued?.abort();
    if (!running) return;
    const turn = new AbortController(), wait = queued = new AbortController();
    const hold = () => new Promise((release) => {
      leading = turn;
      turn.signal.addEventListener("abort", release);
      lead(turn.signal).then(release, release);
    });
    const over = () => {
      turn.abort();
      if (leading === turn) leading = undefined;
      if (queued === wait) contend();
    };
    if (share) navigator.locks.request(name, steal ? { steal: true } : { signal: wait.signal }, hold).then(over, over);
    else hold();
  }

  function hear(m) {
    if (m.out) return stop("signed-out");
    if (m.room !== room || ended) return;
    if (m.ask) return leading && post();
    if (m.epoch < epoch || frozen) return; // a leader that does not know yet that another took over
    if (user !== undefined && m.user !== undefined && m.user !== user) return leave();
    heard = Date.now();
    asked = 0;
    const before = m.event ? m.n - 1 : m.n;
    if (m.epoch > epoch) {
      leading?.abort();
      epoch = m.epoch;
      const early = m.from && (m.from[0] < place[0] || (m.from[0] === place[0] && m.from[1] <= place[1]));
      behind = !!last && !early;
      if (!behind) place = [epoch, last ? 0 : before];
    }
    // A message was missed: only the server can give it to this tab.
    behind ||= place[1] !== before;
    if (behind) return takeOver();
    place[1] = m.n;
    last = m.last || last;
    user ??= m.user;
    if (m.replays) replayed = true;
    if (running) show(m.state, m.detail);
    if (m.event) deliver(m);
    else if (m.unread && m.unread !== unread) deliver({ event: "unread", data: m.unread });
    if (running && m.state === "live" && !replayed) replay();
  }

  function takeOver() {
    stealing ??= setTimeout(() => {
      stealing = undefined;
      if (behind || Date.now() - heard > ASK) contend(true);
    }, Math.random() * 500);
  }

  /** The unread came before this tab did. */
  function replay() {
    replayed = true;
    const over = new AbortController();
    let stale;
    navigator.locks.request(`${name} replay`, () => run(over.signal, () => {
      const q = new URLSearchParams(wished);
      q.set("replay", o.replay);
      q.delete("count");
      return [q, ""];
    }, ({ event, data, id, v, at }) => {
      if (ended || v.user !== user && event === "connected") over.abort();
      else if (event === "connected") stale = id;
      else {
        if (event !== "ping") deliver({ event, data, at });
        if (id !== stale) over.abort(); // the first new ID ends the replay
      }
    }, () => {}));
  }

  /** Goes on alone: what the others have is another user's. */
  function leave() {
    share = false;
    channel.close();
    channel = undefined;
    leading?.abort();
    contend();
  }

  const page = globalThis.document;
  const watched = [[globalThis, "online"], [globalThis, "offline"], [globalThis, "pagehide"], [globalThis, "pageshow"],
    [page, "freeze"], [page, "resume"], [page, "visibilitychange"]];

  function look({ type }) {
    if (type === "pagehide" || type === "freeze") frozen = true;
    if (type === "pageshow" || type === "resume") frozen = false;
    settle();
    tick(page?.visibilityState === "visible");
  }

  function settle() {
    const online = globalThis.navigator?.onLine !== false;
    // Without locks (plain HTTP) each tab has a stream: while it is seen.
    const seen = able || o.share === false || page?.visibilityState !== "hidden";
    const run = ready && !ended && !frozen && online && seen;
    if (!online && !ended) show("offline");
    if (run === running) return;
    running = run;
    if (run) return contend();
    queued?.abort();
    leading?.abort();
  }

  function tick(now) {
    if (!running || leading || !channel) return;
    const quiet = Date.now() - heard;
    if (asked && quiet > DEAD && Date.now() - asked > DEAD) return takeOver();
    if (asked || (quiet < ASK && !now)) return;
    asked = Date.now();
    channel.postMessage({ room, ask: true });
  }

  async function signOut() {
    channel?.postMessage({ out: true });
    stop("signed-out");
    if (!o.token) await fetch(`${base}/session/`, { method: "DELETE", credentials: "include" }).catch(() => {});
  }

  /** Whose tabs share: as the token says, else the server. */
  async function identify() {
    const over = new AbortController();
    for (let failures = 0; o.token && !ended; failures++) {
      try {
        const token = await o.token(false);
        if (!token) return stop("signed-out");
        const c = claims(token);
        if (c) ["exp", "iat", "nbf", "jti"].forEach((k) => delete c[k]);
        return c && JSON.stringify(c);
      } catch (e) {
        show("connecting", `${e}`);
        await rest(pause(failures), life.signal);
      }
    }
    if (o.token) return;
    let who;
    await run(over.signal, () => [new URLSearchParams(), ""], ({ event, v }) => {
      if (event === "connected") who = JSON.stringify(v.user);
      over.abort();
    }, show);
    return who;
  }

  const ticking = setInterval(tick, TICK);
  for (const [target, type] of watched) target?.addEventListener?.(type, look);
  (async () => {
    await null; // the page has its feed first
    if (ended) return;
    show("connecting");
    const who = share ? o.user ?? await identify() : "";
    if (ended) return;
    share &&= who !== undefined; // an opaque token names nobody: such a tab is alone
    if (share) {
      name = `notifications ${base} ${who}`;
      channel = new BroadcastChannel(name);
      name += ` ${room}`;
      channel.onmessage = (e) => hear(e.data);
    }
    ready = true;
    settle();
    tick(true);
  })();

  return {
    close: () => stop("closed"),
    signOut,
    get state() { return state; },
    get leading() { return !!leading; },
  };
}

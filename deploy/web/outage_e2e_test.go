//go:build e2e

package web

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A connection that breaks, again and again, costs nothing but a reconnect.
func TestE2EOutageCut(t *testing.T) {
	r := setup(t)
	all := r.openAll(3, `{}`)
	r.during(func() {
		for i := range 3 {
			r.eventually("a stream is open", func() bool { n, _ := r.front.count(); return n == i+1 && r.front.streams() == 1 })
			r.front.cut()
		}
		all[0].until(`states.at(-1) === "live"`)
	})
	r.tally(all...)
}

// A gateway that is restarted, or dies, costs its users nothing.
func TestE2EOutageRestart(t *testing.T) {
	r := setup(t)
	all := r.openAll(3, `{}`)
	r.during(func() {
		r.gateway.stop()
		r.start()
		all[0].until(`states.at(-1) === "live"`)
		r.gateway.kill()
		r.start()
		all[0].until(`states.at(-1) === "live" && states.filter((s) => s === "live").length >= 3`)
	})
	r.tally(all...)
}

// A connection that is dead but open, as after sleep or behind a NAT that forgot
// it, must be given up after two and a half pings, which are a second apart here.
func TestE2EOutageSilence(t *testing.T) {
	for name, address := range map[string]string{"token": "/tab?as=5", "cookie": `/tab?as=5&cookie=login&o={"user":"alice"}`} {
		t.Run(name, func(t *testing.T) {
			r := setup(t)
			tab := r.visit(r.front.server.URL + address)
			tab.until(`states.at(-1) === "live"`)
			r.eventually("two pings have come", func() bool { return r.front.pinged() >= 3 })
			began := time.Now()
			r.during(func() {
				r.front.set(func(f *front) { f.dead = true })
				r.eventually("the dead stream is given up", func() bool { return r.front.streams() == 0 })
				r.front.set(func(f *front) { f.dead = false })
				tab.until(`states.at(-1) === "live"`)
			})
			r.tally(tab)
			if took := time.Since(began); took > 20*time.Second { // not the 75 s of who has heard no ping
				t.Errorf("it took %v", took)
			}
		})
	}
}

// The whole browser is without network, and comes back.
func TestE2EOutageOffline(t *testing.T) {
	r := setup(t)
	all := r.openAll(3, `{}`)
	network := func(offline bool) {
		for _, tab := range all {
			tab.command("Network.enable", nil)
			tab.command("Network.emulateNetworkConditions", map[string]any{"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})
		}
	}
	r.during(func() {
		network(true)
		for _, tab := range all {
			tab.until(`states.at(-1) === "offline"`)
		}
		r.eventually("no stream is open", func() bool { return r.front.streams() == 0 })
		network(false)
		for _, tab := range all {
			tab.until(`states.at(-1) === "live"`)
		}
	})
	r.tally(all...)
}

// What cannot be proven must reach the page of each tab, once.
func TestE2EOutageReset(t *testing.T) {
	r := setup(t)
	all := r.openAll(3, `{}`)
	r.front.set(func(f *front) {
		f.answer = func(_ http.ResponseWriter, req *http.Request) bool {
			req.Header.Set("Last-Event-ID", "forged")
			f.answer = nil
			return false
		}
	})
	r.front.cut()
	for _, tab := range all {
		tab.until(`resets.length > 0 && states.at(-1) === "live"`)
	}
	r.during(func() {})
	r.tally(all...)
	for _, tab := range all {
		if got := eval[string](tab, `resets.join()`); got != "malformed" {
			t.Errorf("%s was told of resets %q", tab.name, got)
		}
	}
}

// A row that commits between the page's list and its stream would be in neither.
func TestE2EListMissesNothing(t *testing.T) {
	r := setup(t)
	var all []*tab
	r.during(func() {
		for range 4 {
			all = append(all, r.visit(r.front.server.URL+"/tab?as=5&list"))
		}
		for _, tab := range all {
			tab.until(`list`)
		}
	})
	rows := r.rows()
	for _, tab := range all {
		tab.until(fmt.Sprintf(`%d in got`, rows[len(rows)-1]))
		want := strings.Trim(strings.ReplaceAll(fmt.Sprint(rows), " ", ","), "[]")
		if missing := eval[string](tab, fmt.Sprintf(`[%s].filter((id) => !(id in got) && !list.includes(id)).join()`, want)); missing != "" {
			t.Errorf("%s has neither listed nor been given %s", tab.name, missing)
		}
		if twice := eval[int](tab, `Object.values(got).filter((n) => n > 1).length`); twice > 0 {
			t.Errorf("%s got %d rows twice", tab.name, twice)
		}
	}
}

// Every tab begins with what is unread, also one that joins later or is loaded
// anew, and none of the others hears it again.
func TestE2EReplayOfUnread(t *testing.T) {
	r := setup(t)
	for range 10 {
		r.insert(alice)
	}
	all := r.openAll(3, `{"replay":"unread"}`)
	r.during(func() {
		all = append(all, r.open(`{"replay":"unread"}`))
		all[0].command("Page.reload", nil)
	})
	for _, tab := range all {
		tab.since = 0
	}
	r.tally(all...)
	r.eventually("one stream is left", func() bool { return r.front.streams() == 1 })
}

// A row that commits while the unread are listed is among them, and comes again
// behind them, in the same stream.
func TestE2EReplayRepeats(t *testing.T) {
	r := setup(t)
	rest := make(chan string)
	r.front.set(func(f *front) {
		f.answer = func(w http.ResponseWriter, req *http.Request) bool {
			w.Header().Set("Content-Type", "text/event-stream")
			if req.URL.Query().Get("replay") != "unread" {
				t.Errorf("it asked for %s", req.URL.RawQuery)
			}
			fmt.Fprint(w, "id: a\nevent: connected\ndata: {\"user\":5}\n\nevent: notification\ndata: {\"id\":1,\"user\":5}\n\n"+
				"id: b\nevent: notification\ndata: {\"id\":2,\"user\":5}\n\n")
			http.NewResponseController(w).Flush()
			for {
				select {
				case e := <-rest:
					io.WriteString(w, e)
					http.NewResponseController(w).Flush()
				case <-req.Context().Done():
					return true
				}
			}
		}
	})
	tab := r.open(`{"replay":"unread"}`)
	tab.until(`order.length === 2`)
	rest <- "id: c\nevent: notification\ndata: {\"id\":1,\"user\":5}\n\nid: c\nevent: notification\ndata: {\"id\":2,\"user\":5}\n\n" +
		"id: d\nevent: notification\ndata: {\"id\":3,\"user\":5}\n\n"
	tab.until(`3 in got`)
	if got := eval[string](tab, `order.join()`); got != "1,2,3" {
		t.Errorf("it was given %s", got)
	}
}

// A page that is left and come back to, from the browser's cache or not, is
// again a tab as the others.
func TestE2EBackAndForward(t *testing.T) {
	r := setup(t)
	all := r.openAll(3, `{}`)
	leader, others := r.leader(all)
	r.during(func() {
		leader.command("Page.navigate", map[string]any{"url": r.front.server.URL + "/crm"})
		r.leader(others)
		leader.until(`location.pathname === "/crm"`)
		leader.do(`history.back()`)
		leader.until(`"feed" in window && states.at(-1) === "live"`)
	})
	t.Logf("from the cache: %t", eval[bool](leader, `order.length > 0 && performance.getEntriesByType("navigation")[0].type !== "back_forward"`))
	r.tally(others...)
	leader.since = len(r.rows())
	r.during(func() {})
	r.tally(all...)
}

// The events of streams that ask for them must reach every tab, and a tab that
// joins must know the count.
func TestE2EChangesAndCount(t *testing.T) {
	r := setup(t)
	// Each connection has a channel of its own, because the server hears only later
	// that an earlier one is gone.
	var newest atomic.Pointer[chan string]
	var asked string
	r.front.set(func(f *front) {
		f.answer = func(w http.ResponseWriter, req *http.Request) bool {
			asked = req.URL.RawQuery
			events := make(chan string)
			newest.Store(&events)
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "id: 1\nevent: connected\ndata: {\"user\":5}\n\n")
			http.NewResponseController(w).Flush()
			for {
				select {
				case e := <-events:
					io.WriteString(w, e)
					http.NewResponseController(w).Flush()
				case <-req.Context().Done():
					return true
				}
			}
		}
	})
	all := r.openAll(2, `{"changes":true,"count":true,"types":["x","y"]}`)
	if asked != "types=x%2Cy&changes=true&count=true" {
		t.Errorf("it asked for %s", asked)
	}
	send := func(id, event, data string) {
		text := fmt.Sprintf("id: %s\r\nevent: %s\r\ndata: %s\r\n\r\n", id, event, data)
		for {
			select {
			case *newest.Load() <- text:
				return
			case <-time.After(50 * time.Millisecond): // the next connection may be on its way
			}
		}
	}
	row := func(id int, read bool) string { return fmt.Sprintf(`{"id":%d,"user":5,"is_read":%t}`, id, read) }
	send("1", "unread", `{"count":1000,"more":true}`)
	send("2", "notification", row(1, false))
	send("3", "updated", row(1, true))
	send("4", "updated", row(1, false))
	send("5", "updated", row(1, true))
	send("6", "removed", `{"id":1}`)
	send("7", "notification", row(1, true)) // snoozed, and due
	send("8", "unread", `{"count":3}`)
	send("8", "of a later gateway", `not JSON`)
	send("9", "refresh", `{"reason":"bulk"}`)
	for _, tab := range all {
		tab.until(`resets.length === 1`)
		got := eval[string](tab, `JSON.stringify([got, updated.map((n) => n.is_read), removed, unread, resets])`)
		if want := `[{"1":2},[true,false,true],[1],[[1000,true],[3,false]],["refresh"]]`; got != want {
			t.Errorf("%s got %s, want %s", tab.name, got, want)
		}
	}
	late := r.open(`{"changes":true,"count":true,"types":["x","y"]}`)
	late.until(`unread.length === 1 && unread[0][0] === 3`)
	// The next stream brings what this one has brought, as after a crash.
	leader, others := r.leader(all)
	leader.close()
	r.leader(append(others, late))
	send("7", "notification", row(1, true))
	send("10", "updated", row(1, false))
	send("11", "refresh", `{"reason":"truncate"}`)
	others[0].until(`resets.length === 2`)
	if got := eval[string](others[0], `JSON.stringify([got, updated.at(-1).is_read])`); got != `[{"1":2},false]` {
		t.Errorf("after the second stream: %s", got)
	}
}

// What becomes of a notification at the real gateway must reach every tab once,
// also those that do not hold the stream.
func TestE2EChangesOfTheGateway(t *testing.T) {
	r := setup(t)
	name, _ := binary()
	attach := exec.Command(name, "attach", "public.notifications", "--on-update", "is_read", "--on-delete")
	attach.Env = []string{"DATABASE_URL=" + r.dsn}
	if out, err := attach.CombinedOutput(); err != nil {
		t.Fatalf("attach: %v\n%s", err, out)
	}
	all := r.openAll(3, `{"changes":true,"count":true}`)
	id := r.insert(alice)
	for _, statement := range []string{"UPDATE notifications SET is_read = true WHERE id = $1", "DELETE FROM notifications WHERE id = $1"} {
		for _, tab := range all {
			tab.until(fmt.Sprintf(`%d in got`, id))
		}
		if err := r.db.Exec(t.Context(), statement, id); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(statement, "UPDATE") {
			for _, tab := range all {
				tab.until(`updated.length === 1 && updated[0].is_read`)
			}
		}
	}
	for _, tab := range all {
		tab.until(fmt.Sprintf(`removed.join() === "%d"`, id))
		tab.until(`unread.length > 0 && unread.at(-1)[0] === 0`)
		if got := eval[string](tab, `JSON.stringify([Object.values(got), updated.length, removed.length, resets])`); got != `[[1],1,1,[]]` {
			t.Errorf("%s was given %s", tab.name, got)
		}
	}
}

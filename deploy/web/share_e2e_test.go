//go:build e2e

package web

import (
	"testing"
)

const tabs = 8 // one more than a browser gives connections to a host over HTTP/1.1

// Seven open tabs took all six connections that a browser gives a host, and the
// CRM did not answer any more.
func TestE2EShareEightTabs(t *testing.T) {
	r := setup(t)
	all := r.openAll(tabs, `{}`)
	r.during(func() {
		for _, tab := range all {
			tab.do(`fetch("/crm").then((a) => a.text()).then((text) => window.crm = text)`)
			tab.until(`window.crm === "the CRM answers"`)
		}
	})
	r.tally(all...)
	if opened, most := r.front.count(); opened != 1 || most != 1 {
		t.Errorf("%d streams were opened, %d at a time, want one", opened, most)
	}
}

// A tab that closes takes its stream along, and events that come meanwhile.
func TestE2EShareLeaderCloses(t *testing.T) {
	r := setup(t)
	all := r.openAll(tabs, `{}`)
	leader, others := r.leader(all)
	r.during(func() {
		leader.close()
		r.leader(others)
	})
	r.tally(others...)
}

// The page of the leader is loaded anew: its next life is a follower.
func TestE2EShareLeaderReloads(t *testing.T) {
	r := setup(t)
	all := r.openAll(4, `{}`)
	leader, others := r.leader(all)
	r.during(func() {
		leader.command("Page.reload", nil)
		r.leader(others)
		leader.until(`"feed" in window && states.at(-1) === "live"`)
	})
	leader.since = len(r.rows())
	r.during(func() {})
	r.tally(all...)
}

// A frozen leader reads nothing; when it thaws it must not tell what is old.
func TestE2EShareLeaderFreezes(t *testing.T) {
	r := setup(t)
	all := r.openAll(4, `{}`)
	leader, others := r.leader(all)
	leader.command("Page.setWebLifecycleState", map[string]any{"state": "frozen"})
	r.during(func() { r.leader(others) })
	r.tally(others...)
	leader.command("Page.setWebLifecycleState", map[string]any{"state": "active"})
	r.during(func() { leader.until(`states.at(-1) === "live"`) })
	r.tally(all...)
}

// A leader that hangs holds its lock: nobody would get anything any more.
func TestE2EShareLeaderHangs(t *testing.T) {
	r := setup(t)
	all := r.openAll(4, `{}`)
	leader, others := r.leader(all)
	leader.do(`setTimeout(() => { const end = Date.now() + 20000; while (Date.now() < end); })`)
	r.during(func() { r.leader(others) })
	r.tally(others...)
	r.during(func() { leader.until(`!feed.leading`) }) // it comes back to itself
	r.tally(all...)
}

// A leader without network must not stop those that have one.
func TestE2EShareLeaderOffline(t *testing.T) {
	r := setup(t)
	all := r.openAll(4, `{}`)
	leader, others := r.leader(all)
	network := func(offline bool) {
		leader.command("Network.enable", nil)
		leader.command("Network.emulateNetworkConditions", map[string]any{"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})
	}
	r.during(func() {
		network(true)
		r.leader(others)
	})
	r.tally(all...)
	network(false)
	r.during(func() {})
	r.tally(all...)
}

// Tabs that wish for other events have another stream, and get no more than
// they asked for.
func TestE2EShareOtherWishes(t *testing.T) {
	r := setup(t)
	one, two := r.open(`{}`), r.open(`{"types":["y"]}`)
	r.during(func() {})
	r.tally(one)
	if n := eval[int](two, `order.length`); n != 0 {
		t.Errorf("%d notifications of types that it does not want", n)
	}
	if n := r.front.streams(); n != 2 {
		t.Errorf("%d streams, want 2", n)
	}
}

// A tab that closes its feed takes nothing more, and lets the others go on.
func TestE2EShareClose(t *testing.T) {
	r := setup(t)
	all := r.openAll(3, `{}`)
	leader, others := r.leader(all)
	leader.do(`feed.close()`)
	had := eval[int](leader, `order.length`)
	r.during(func() { r.leader(others) })
	r.tally(others...)
	if n := eval[int](leader, `order.length`); n != had || eval[string](leader, `states.at(-1)`) != "closed" {
		t.Errorf("%d notifications after it was closed", n-had)
	}
	for _, tab := range others {
		tab.do(`feed.close()`)
	}
	r.eventually("no stream is left", func() bool { return r.front.streams() == 0 })
}

// Without Web Locks (plain HTTP) each tab needs a stream of its own: those that
// nobody sees must give theirs up, or seven tabs stop the CRM.
func TestE2EShareNotWithoutLocks(t *testing.T) {
	r := setup(t)
	r.front.server.URL = "http://crm.test:" + r.front.server.URL[len("http://127.0.0.1:"):]
	all := r.openAll(tabs, `{}`)
	if eval[bool](all[0], `"locks" in navigator`) {
		t.Fatal("the page is a secure context")
	}
	r.eventually("hidden tabs have no stream", func() bool { return r.front.streams() <= 2 })
	r.during(func() {
		all[tabs-1].do(`fetch("/crm").then((a) => a.text()).then((text) => window.crm = text)`)
		all[tabs-1].until(`window.crm === "the CRM answers"`)
	})
	r.tally(all[tabs-1])
	for _, tab := range all[:2] { // each catches up when it is looked at
		tab.command("Page.bringToFront", nil)
		r.tally(tab)
	}
}

// Whatever the leader does, and however fast, the others lose nothing.
func TestE2EShareLeadersComeAndGo(t *testing.T) {
	r := setup(t)
	all := r.openAll(6, `{}`)
	r.during(func() {
		for len(all) > 2 {
			leader, others := r.leader(all)
			leader.close()
			all = others
		}
		r.front.cut()
		r.leader(all)
	})
	r.tally(all...)
}

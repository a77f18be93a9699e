//go:build e2e

package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// states are what a tab was told, in order.
func (t *tab) states() string {
	t.Helper()
	return eval[string](t, `states.join("; ")`)
}

// gap is the longest time in which no stream was open, between two openings.
func (f *front) gap() (longest time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.closed {
		if i+1 < len(f.opened) {
			longest = max(longest, f.opened[i+1].Sub(f.closed[i]))
		}
	}
	return longest
}

// A token that expires each few seconds must be replaced before the stream ends:
// without a second in the dark, and without a word to the user.
func TestE2ETokenIsRenewed(t *testing.T) {
	r := setup(t)
	r.front.set(func(f *front) { f.life = 4 * time.Second })
	all := r.openAll(3, `{}`)
	leader, _ := r.leader(all)
	r.during(func() { leader.until(`asked.filter((refused) => refused).length >= 3`) })
	r.tally(all...)
	if gap := r.front.gap(); gap > 500*time.Millisecond {
		t.Errorf("no stream for %v", gap)
	}
	for _, tab := range all {
		if s := tab.states(); s != "connecting; live" {
			t.Errorf("%s was told %s", tab.name, s)
		}
	}
}

// A new token that comes when its stream has ended already must not end the next.
func TestE2ETokenComesLate(t *testing.T) {
	r := setup(t)
	hold := make(chan struct{})
	r.front.set(func(f *front) { f.life, f.hold = 4*time.Second, hold })
	tab := r.open(`{}`)
	tab.until(`asked.includes(true)`)
	r.front.set(func(f *front) { f.life = time.Hour })
	r.during(func() {
		r.front.cut()
		r.eventually("the next stream is open", func() bool { n, _ := r.front.count(); return n == 2 })
		tab.until(`states.at(-1) === "live"`)
		close(hold)
	})
	r.tally(tab)
	if opened, _ := r.front.count(); opened != 2 {
		t.Errorf("%d streams were opened, want 2", opened)
	}
}

// Where the browser's clock and the server's say nothing of the expiry, the
// server ends the stream, and a new token must bring the next at once.
func TestE2ETokenExpires(t *testing.T) {
	r := setup(t)
	r.front.set(func(f *front) { f.life, f.late = 2*time.Second, time.Hour })
	all := r.openAll(3, `{}`)
	leader, _ := r.leader(all)
	r.during(func() { leader.until(`asked.filter((refused) => refused).length >= 2`) })
	r.front.set(func(f *front) { f.life = time.Hour })
	r.during(func() { leader.until(`states.at(-1) === "live"`) })
	r.tally(all...)
	if s := leader.states(); !strings.Contains(s, "token_expired") || r.front.gap() > time.Second {
		t.Errorf("no stream for %v; it was told %s", r.front.gap(), s)
	}
}

// Who signs out in one tab is signed out in all, and no stream stays.
func TestE2ESignOutIsToldToAllTabs(t *testing.T) {
	for name, address := range map[string]string{"token": "/tab?as=5", "cookie": "/tab?as=5&cookie=login"} {
		t.Run(name, func(t *testing.T) {
			r := setup(t)
			var all []*tab
			for range 3 {
				all = append(all, r.visit(r.front.server.URL+address))
			}
			for _, tab := range all {
				tab.until(`states.at(-1) === "live"`)
			}
			_, others := r.leader(all)
			others[0].do(`feed.signOut()`)
			for _, tab := range all {
				tab.until(`states.at(-1) === "signed-out"`)
			}
			r.eventually("no stream is left", func() bool { return r.front.streams() == 0 })
			r.insert(alice)
			again := r.visit(r.front.server.URL + strings.TrimSuffix(address, "=login"))
			if name == "cookie" {
				again.until(`states.at(-1).startsWith("signed-out")`)
			} else {
				again.until(`states.at(-1) === "live"`)
			}
			for _, tab := range all {
				if n := eval[int](tab, `order.length`); n != 0 {
					t.Errorf("%s got %d notifications after it was signed out", tab.name, n)
				}
			}
		})
	}
}

// A token that is null is nobody's.
func TestE2ENullTokenIsSignedOut(t *testing.T) {
	r := setup(t)
	all := r.openAll(2, `{}`)
	r.front.set(func(f *front) { f.out = true })
	r.front.cut()
	for _, tab := range all {
		tab.until(`states.at(-1) === "signed-out"`)
	}
}

// Two users in one browser, as support engineers and shared desks have them,
// must each get their own and nothing else, without the page saying who it is.
func TestE2EAnotherUser(t *testing.T) {
	r := setup(t)
	alices := r.openAll(2, `{}`)
	bobs := []*tab{r.visit(fmt.Sprintf("%s/tab?as=%d", r.front.server.URL, bob)), r.visit(fmt.Sprintf("%s/tab?as=%d", r.front.server.URL, bob))}
	for _, tab := range bobs {
		tab.until(`states.at(-1) === "live"`)
	}
	r.during(func() { bobs[0].until(`order.length === 1`) })
	r.tally(alices...)
	for _, tab := range bobs {
		tab.until(`order.length === 1`)
		if eval[bool](tab, `!!window.wrong`) {
			t.Errorf("%s got another user's notification", tab.name)
		}
	}
	if n := r.front.streams(); n != 2 {
		t.Errorf("%d streams, want one for each user", n)
	}
}

// The cookie is the whole browser's: after another user's login the pages of the
// first must not pass for the second's, nor the other way round.
func TestE2EAnotherUserByCookie(t *testing.T) {
	r := setup(t)
	first := r.visit(r.front.server.URL + "/tab?as=5&cookie=login")
	first.until(`states.at(-1) === "live"`)
	second := r.visit(r.front.server.URL + "/tab?as=7&cookie=login")
	second.until(`states.at(-1) === "live"`)
	r.insert(alice)
	r.insert(bob)
	first.until(`order.length === 1`)
	second.until(`order.length === 1`)
	r.front.cut() // the first comes back with the second's cookie, and is told
	first.until(`resets.includes("user")`)
	if eval[bool](second, `!!window.wrong || resets.length > 0`) {
		t.Error("the second user's page was told something of the first's")
	}
	r.insert(bob)
	second.until(`order.length === 2`)
}

// The page names its user: then no tab needs to ask the server who it is.
func TestE2ECookieWithUser(t *testing.T) {
	r := setup(t)
	address := r.front.server.URL + "/tab?as=5&cookie=login&o=" + url.QueryEscape(`{"user":"alice"}`)
	var all []*tab
	for range 3 {
		tab := r.visit(address)
		tab.until(`states.at(-1) === "live"`)
		all = append(all, tab)
	}
	r.during(func() {})
	r.tally(all...)
	r.during(func() { r.front.cut() })
	r.tally(all...)
	if opened, _ := r.front.count(); opened != 2 {
		t.Errorf("%d streams were opened, want 2", opened)
	}
}

// refuse answers streams with a status, as often as it is asked.
func (f *front) refuse(status int, body string, header ...string) {
	f.set(func(f *front) {
		f.answer = func(w http.ResponseWriter, r *http.Request) bool {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
			return true
		}
	})
}

// The UI must be able to say why: a status alone helps nobody.
func TestE2ERefusal(t *testing.T) {
	r := setup(t)
	if err := r.db.Exec(t.Context(), "INSERT INTO auth_user (id, username, email) VALUES (99, 'gone', 'gone@example.com')"); err != nil {
		t.Fatal(err)
	}
	r.gateway.stop()
	r.start("GATEWAY_RECIPIENT=lookup")
	for name, query := range map[string]string{"token": "as=99", "cookie": "as=99&cookie=login"} {
		tab := r.visit(r.front.server.URL + "/tab?" + query)
		want := "refused no_recipient: The token names no active recipient."
		if name == "cookie" { // no session came to be
			want = "signed-out missing_token: A token is required."
		}
		tab.until(fmt.Sprintf(`states.at(-1) === %q`, want))
	}
	r.front.refuse(http.StatusUnauthorized, `{"error":"The token was refused: signature.","code":"invalid_token"}`)
	tab := r.visit(r.front.server.URL + "/tab?as=5")
	tab.until(`states.at(-1) === "refused invalid_token: The token was refused: signature."`)
	if asked := eval[string](tab, `JSON.stringify(asked.slice(-2))`); asked != "[false,true]" {
		t.Errorf("it asked for tokens with %s, want a new one before it gives up", asked)
	}
}

// A server that is full must not be asked again before it said so.
func TestE2ERetryAfter(t *testing.T) {
	r := setup(t)
	r.front.refuse(http.StatusServiceUnavailable, `{"error":"full","code":"full"}`, "Retry-After", "2")
	tab := r.visit(r.front.server.URL + "/tab?as=5")
	r.eventually("it has tried three times", func() bool { n, _ := r.front.count(); return n >= 3 })
	r.front.set(func(f *front) { f.answer = nil })
	tab.until(`states.at(-1) === "live"`)
	for i := range r.front.opened[1:] {
		if pause := r.front.opened[i+1].Sub(r.front.opened[i]); pause < 2*time.Second {
			t.Errorf("it came back after %v", pause)
		}
	}
}

// A server that fails must not be asked faster and faster.
func TestE2EBackOff(t *testing.T) {
	r := setup(t)
	all := r.openAll(2, `{}`)
	r.front.refuse(http.StatusBadGateway, "")
	r.front.forget()
	r.front.cut()
	r.eventually("it has tried four times", func() bool { n, _ := r.front.count(); return n >= 4 })
	r.front.set(func(f *front) { f.answer = nil })
	r.during(func() { all[0].until(`states.at(-1) === "live"`) })
	r.tally(all...)
	first, last := r.front.opened[1].Sub(r.front.opened[0]), r.front.opened[3].Sub(r.front.opened[2])
	if last < 2*time.Second || first > 3*time.Second {
		t.Errorf("the first pause is %v, the third %v", first, last)
	}
}

// 503 ends an EventSource for good; asked to, the gateway says it in a stream.
func TestE2ECookieUnavailable(t *testing.T) {
	r := setup(t)
	tab := r.visit(r.front.server.URL + "/tab?as=5&cookie=login")
	tab.until(`states.at(-1) === "live"`)
	r.front.refuse(http.StatusServiceUnavailable, `{"error":"full","code":"full"}`, "Retry-After", "1")
	r.front.cut()
	tab.until(`states.at(-1) === "connecting full: full"`)
	r.front.refuse(http.StatusOK, "retry: 500\nevent: error\ndata: {\"code\":\"unavailable\",\"message\":\"full\"}\n\n", "Content-Type", "text/event-stream")
	tab.until(`states.at(-1) === "connecting unavailable"`)
	r.front.set(func(f *front) { f.answer = nil })
	r.during(func() { tab.until(`states.at(-1) === "live"`) })
	r.tally(tab)
}

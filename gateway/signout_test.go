package gateway

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store"
)

// fakeSessions remembers what was written.
type fakeSessions struct {
	mu    sync.Mutex
	wrote []store.Entry // guarded by mu
	err   error         // guarded by mu
}

func (f *fakeSessions) ChangeSession(_ context.Context, session, userKey, change string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	f.wrote = append(f.wrote, store.Entry{UserKey: sessionPrefix + session, ItemID: userKey, Disconnect: change})
	return nil
}

// entries are those that were written since the last call.
func (f *fakeSessions) entries() []store.Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	wrote := f.wrote
	f.wrote = nil
	return wrote
}

// tell brings entries by a batch, as the feed does.
func (r *rig) tell(entries ...store.Entry) {
	b := r.source.add("nobody")
	b.Entries = append(b.Entries, entries...)
	r.deliver(b)
}

const sessionPath = "/api/notifications/session/"

// A sign-out ends what was opened with the cookie and nothing else, and reaches
// every replica by one row of the log, which holds nothing of the token.
func TestSignOut(t *testing.T) {
	var sessions fakeSessions
	with := func(c *Config, _ *fakeVerifier) { c.Sessions = &sessions }
	here, there := setup(t, with), setup(t, with)
	for _, r := range []*rig{here, there} {
		r.SetSessionKey([]byte("a key that all replicas share"))
	}
	cookie := map[string]string{"Cookie": "session=5"}
	streams := func(r *rig) (byCookie, byToken, ofAnother *client) {
		byCookie, byToken, ofAnother = r.open("", "", "Cookie", "session=5"), r.open("5", ""), r.open("", "", "Cookie", "session=6")
		for _, c := range []*client{byCookie, byToken, ofAnother} {
			c.expect("connected", "")
		}
		return byCookie, byToken, ofAnother
	}
	mine, mineByToken, another := streams(here)
	theirs, theirsByToken, anotherThere := streams(there)
	for range 3 { // a page that asks in a loop
		if resp, _ := here.request("DELETE", sessionPath, cookie); resp.StatusCode != 204 || resp.Cookies()[0].MaxAge != -1 {
			t.Fatalf("%s %v", resp.Status, resp.Cookies())
		}
	}
	mine.expect("error", "signed_out")
	mine.expect("end", "")
	wrote := sessions.entries()
	if len(wrote) != 1 || wrote[0].ItemID != "5" || wrote[0].Disconnect != "signed_out" || len(wrote[0].UserKey) != len(sessionPrefix)+32 {
		t.Fatalf("the log got %+v, want one sign-out", wrote)
	}
	there.tell(wrote...)
	theirs.expect("error", "signed_out")
	for r, others := range map[*rig][]*client{here: {mineByToken}, there: {theirsByToken}} {
		r.deliver(r.source.add("5"))
		for _, c := range others {
			c.expect("notification", "")
		}
	}
	here.deliver(here.source.add("6"))
	another.expect("notification", "")
	there.deliver(there.source.add("6"))
	anotherThere.expect("notification", "")

	// A token that does not verify writes nothing, and its cookie is cleared all the same.
	if resp, _ := here.request("DELETE", sessionPath, map[string]string{"Cookie": "session=expired"}); resp.StatusCode != 204 || len(resp.Cookies()) != 1 {
		t.Errorf("%s %v", resp.Status, resp.Cookies())
	}
	if wrote := sessions.entries(); len(wrote) != 0 {
		t.Errorf("the log got %+v", wrote)
	}
}

// While the other replicas cannot be told, the client must hear of it: this
// replica's streams are ended and the cookie is cleared, and it may try again.
func TestSignOutWithoutPostgres(t *testing.T) {
	sessions := fakeSessions{err: errors.New("postgres is away")}
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.Sessions = &sessions })
	r.SetSessionKey(nil)
	c := r.open("", "", "Cookie", "session=5")
	c.expect("connected", "")
	for range 2 {
		resp, _ := r.request("DELETE", sessionPath, map[string]string{"Cookie": "session=5"})
		if resp.StatusCode != 503 || len(resp.Cookies()) != 1 || resp.Cookies()[0].MaxAge != -1 {
			t.Errorf("%s %v", resp.Status, resp.Cookies())
		}
	}
	c.expect("error", "signed_out")
}

// A token that is renewed every few minutes must not cost a reconnect each time:
// the streams go on until the end of the new token, and belong to its cookie.
func TestRenewedSession(t *testing.T) {
	var sessions fakeSessions
	now := time.Now().Truncate(time.Second)
	end := now.Add(time.Minute)
	with := func(c *Config, _ *fakeVerifier) { c.Sessions = &sessions }
	here, there := setup(t, with), setup(t, with)
	verifier := &tokenEnds{ends: map[string]time.Time{"5.old": end, "5.new": end.Add(time.Minute), "6.new": end.Add(time.Hour)}}
	for _, r := range []*rig{here, there} {
		r.verifier = verifier
		r.SetSessionKey([]byte("a key that all replicas share"))
	}
	mine, theirs := here.open("", "", "Cookie", "session=5.old"), there.open("", "", "Cookie", "session=5.old")
	mine.expect("connected", "")
	theirs.expect("connected", "")
	post := func(token string) {
		t.Helper()
		resp, body := here.request("POST", sessionPath, map[string]string{"Authorization": "Bearer " + token, "Cookie": "session=5.old"})
		if resp.StatusCode != 204 {
			t.Fatalf("%s %s", resp.Status, body)
		}
	}
	post("6.new") // of another user: nothing may be gained by it
	if wrote := sessions.entries(); len(wrote) != 0 {
		t.Fatalf("another user's token wrote %+v", wrote)
	}
	post("5.new")
	wrote := sessions.entries()
	if len(wrote) != 1 || !strings.HasPrefix(wrote[0].Disconnect, fmt.Sprintf("renewed %d ", end.Add(time.Minute).Unix())) || strings.Contains(fmt.Sprint(wrote), "5.new") {
		t.Fatalf("the log got %+v, want one renewal", wrote)
	}
	there.tell(wrote...)
	for r, c := range map[*rig]*client{here: mine, there: theirs} {
		r.hub.tick(end.Add(time.Second))
		r.deliver(r.source.add("5"))
		e := c.next()
		if e.event == "ping" { // of that tick
			e = c.next()
		}
		if e.event != "notification" {
			t.Fatalf("after the old token's end: %+v", e)
		}
		if s := r.streamOf("5"); s.expires != end.Add(time.Minute).Unix() {
			t.Errorf("the stream ends at %d, want the new token's end", s.expires)
		}
	}
	if resp, _ := here.request("DELETE", sessionPath, map[string]string{"Cookie": "session=5.new"}); resp.StatusCode != 204 {
		t.Fatal(resp.Status)
	}
	there.tell(sessions.entries()...)
	mine.expect("error", "signed_out")
	theirs.expect("error", "signed_out")
}

// tokenEnds takes a token for its subject up to a dot.
type tokenEnds struct{ ends map[string]time.Time }

func (v *tokenEnds) Verify(_ context.Context, token string) (auth.Identity, error) {
	subject, _, _ := strings.Cut(token, ".")
	return auth.Identity{Subject: subject, GoodUntil: v.ends[token]}, nil
}

// What is no change of a session must stay what it is: a disconnect() of the CRM
// ends a user's streams, and can neither end nor renew a session.
func TestOnlyTheGatewayChangesSessions(t *testing.T) {
	r := setup(t, nil)
	c := r.open("", "", "Cookie", "session=5")
	c.expect("connected", "")
	id := r.streamOf("5").session
	key := sessionPrefix + hex.EncodeToString(id[:])
	for _, e := range []store.Entry{
		{UserKey: key, Disconnect: "signed_out"}, // as disconnect() writes it
		{UserKey: key, ItemID: "6", Disconnect: "signed_out"},
		{UserKey: key, ItemID: "5", Disconnect: "renewed"},
		{UserKey: key, ItemID: "5", Disconnect: "renewed -1 " + strings.Repeat("0", 32)},
		{UserKey: sessionPrefix + strings.Repeat("0", 32), ItemID: "5", Disconnect: "signed_out"}, // the ID of streams without a cookie
		{UserKey: sessionPrefix, ItemID: "5", Disconnect: "signed_out"},
		{UserKey: key + "0", ItemID: "5", Disconnect: "signed_out"},
	} {
		r.tell(e)
		if r.streamOf("5").session != id {
			t.Fatalf("%+v changed the session", e)
		}
	}
	r.tell(store.Entry{UserKey: "5", Disconnect: "fired"})
	c.expect("error", "revoked")
}

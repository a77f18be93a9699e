package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// fakeChecker is a view identity that remembers whom it was asked for.
type fakeChecker struct {
	mu    sync.Mutex
	gone  []string    // subjects; guarded by mu
	moved []string    // subjects that are in other groups; guarded by mu
	err   error       // guarded by mu
	asked []string    // subjects; guarded by mu
	calls []time.Time // guarded by mu
	sizes []int       // guarded by mu
}

func (f *fakeChecker) Check(_ context.Context, recipients []store.Recipient) (inactive, changed []store.Recipient, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, time.Now())
	f.sizes = append(f.sizes, len(recipients))
	for _, r := range recipients {
		f.asked = append(f.asked, r.Subject)
		switch {
		case slices.Contains(f.gone, r.Subject):
			inactive = append(inactive, r)
		case slices.Contains(f.moved, r.Subject):
			changed = append(changed, r)
		}
	}
	return inactive, changed, f.err
}

func everybody(string) bool { return true }

// Somebody who has left must stop receiving, on every tab, and nobody else;
// and a database that is away must not look as if everybody had left.
func TestInactiveRecipientsAreRevoked(t *testing.T) {
	r := setup(t, nil)
	tabs := []*client{r.open("5", ""), r.open("5", ""), r.open("7", "")}
	for _, c := range tabs {
		c.expect("connected", "")
	}
	checker := &fakeChecker{gone: []string{"5"}, err: errors.New("Postgres is away")}
	if err := r.checkRecipients(t.Context(), checker, everybody); err == nil {
		t.Error("the outage was not told")
	}
	r.deliver(r.source.add("5", "7"))
	for _, c := range tabs {
		c.expect("notification", "") // nobody was ended
	}
	checker.err = nil
	if err := r.checkRecipients(t.Context(), checker, func(subject string) bool { return subject != "5" }); err != nil {
		t.Error(err)
	}
	r.deliver(r.source.add("5", "7"))
	for _, c := range tabs {
		c.expect("notification", "") // 5 was not in that slice
	}
	checker.asked = nil
	if err := r.checkRecipients(t.Context(), checker, everybody); err != nil {
		t.Error(err)
	}
	for _, c := range tabs[:2] {
		c.expect("error", `"code":"revoked"`)
		c.expect("end", "")
	}
	r.deliver(r.source.add("5", "7"))
	tabs[2].expect("notification", "")
	if slices.Sort(checker.asked); strings.Join(checker.asked, " ") != "5 7" {
		t.Errorf("asked for %v, want each once", checker.asked)
	}
}

// silent is a connection that takes everything.
type silent struct{}

func (silent) Send(*event) bool { return true }

func (silent) Stalled() time.Duration { return 0 }

func (silent) Drained(context.Context) error                                               { return nil }
func (silent) End(*event)                                                                  {}
func (silent) Serve(http.ResponseWriter, *http.Request, func(context.Context), func(bool)) {}

// All recipients at one moment would be a burst for the CRM's database; one
// that is left out would stay for ever.
func TestRecipientChecksAreSpread(t *testing.T) {
	const users, interval = 5000, 5 * time.Minute
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{known: map[string]store.Cursor{}}
		g := New(Config{PingInterval: time.Hour, MaxStreams: users, MaxStreamsPerUser: 20, CursorRefresh: time.Hour}, source, fakeVerifier{}, prometheus.NewRegistry())
		if err := g.Deliver(t.Context(), source.add("nobody")); err != nil {
			t.Fatal(err)
		}
		for i := range users {
			subject := strings.Repeat("x", i%7) + time.Duration(i).String()
			s := &stream{recipient: store.Recipient{UserKey: subject, Subject: subject}, out: silent{}}
			if _, refused := g.hub.register(s, true, func(*position) []*event { return nil }); refused != nil {
				t.Fatal(refused)
			}
		}
		checker := &fakeChecker{}
		ctx, cancel := context.WithTimeout(t.Context(), interval+time.Second)
		defer cancel()
		if err := g.CheckRecipients(ctx, checker, interval); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
		slices.Sort(checker.asked)
		if all := len(checker.asked); all != users || len(slices.Compact(checker.asked)) != users {
			t.Errorf("asked for %d recipients, %d of them different, want each of %d once", all, len(slices.Compact(checker.asked)), users)
		}
		if most := slices.Max(checker.sizes); most > users/checkSlices*2 {
			t.Errorf("%d recipients were asked for at one moment", most)
		}
		if len(checker.calls) != checkSlices || checker.calls[1].Sub(checker.calls[0]) != interval/checkSlices {
			t.Errorf("asked at %v", checker.calls)
		}
	})
}

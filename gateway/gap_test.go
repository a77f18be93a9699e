package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// lines counts what is logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// asleep is how many replays wait for Postgres.
func (r *rig) asleep() int {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	return r.hub.waiting
}

// Clients that come back while Postgres is away must not be sent away again,
// thousands every three seconds: they wait with an open stream, ask nothing
// until the feed has been answered, and then get what they missed.
func TestReplayWaitsForPostgres(t *testing.T) {
	const clients = 20
	log := &lines{}
	r := setup(t, func(c *Config, _ *fakeVerifier) {
		c.MaxStreamsPerUser, c.Logger = 2*clients, slog.New(slog.NewTextHandler(log, nil))
	})
	first := r.open("5", "")
	start := first.expect("connected", "").id
	r.deliver(r.source.add("5"))
	r.source.unread = []store.Notification{{Data: []byte(`{"id":2}`)}}
	r.source.fail(errors.New("away"))
	var all []*client
	for range clients {
		all = append(all, r.open("5", "&last_event_id="+start), r.open("5", "&replay=unread"))
	}
	for _, c := range all {
		c.expect("connected", "")
	}
	for range r.hub.wheel.buckets {
		r.hub.tick(time.Now())
	}
	for _, c := range all {
		c.expect("ping", "")
	}
	eventually(r, "all replays wait", func() bool { return r.asleep() == 2*clients })
	if asked := r.source.asked(); asked > 2*clients {
		t.Errorf("%d streams asked %d times", 2*clients, asked)
	}
	r.source.fail(nil)
	r.deliver(r.source.add("7"))
	for _, c := range all {
		c.expect("notification", `{"id":2}`)
	}
	r.deliver(r.source.add("5"))
	last := fmt.Sprintf(`{"id":%d}`, len(r.source.rows))
	for _, c := range all {
		for e := c.next(); !strings.Contains(e.data, last); e = c.next() {
			if e.event != "notification" { // what came while it was being replayed may come again
				t.Fatalf("got %s %s", e.event, e.data)
			}
		}
	}
	if n := log.count("away"); n > 3 {
		t.Errorf("%d lines of log for one outage", n)
	}
}

// Objects that were made anew, or a database from a dump, say nothing of what
// was missed: streams that stay open must be told to reload.
func TestAnotherInstallationIsTold(t *testing.T) {
	r := setup(t, nil)
	live := r.open("5", "")
	start := live.expect("connected", "").id
	r.deliver(r.source.add("5"))
	live.expect("notification", "")
	r.source.fail(errors.New("away"))
	waiting := r.open("5", "&last_event_id="+start)
	waiting.expect("connected", "")
	eventually(r, "the replay waits", func() bool { return r.asleep() == 1 })
	r.source.fail(nil)
	other := store.MakeCursor([16]byte{2}, 1, time.Unix(1_700_000_000, 0), store.Snapshot{Xmax: 1})
	r.deliver(store.Batch{Cursor: other})
	for _, c := range []*client{live, waiting} {
		if e := c.expect("reset", `{"reason":"foreign"}`); e.id != other.String() {
			t.Errorf("the reset carries %q, want the new position", e.id)
		}
	}
	again := store.MakeCursor([16]byte{2}, 1, time.Unix(1_700_000_001, 0), store.Snapshot{Xmax: 3})
	r.source.mu.Lock() // for a stream that has been told but is not live yet
	r.source.known[other.String()], r.source.known[again.String()] = other, again
	r.source.mu.Unlock()
	r.deliver(store.Batch{Entries: []store.Entry{{XID: 2, UserKey: "5"}}, Cursor: again})
	for _, c := range []*client{live, waiting} {
		c.expect("notification", `{"id":2}`)
	}
}

// A gateway that was cut off for longer than the log is kept has missed what
// another replica pruned: its streams must not go on as if nothing had been.
func TestOutageLongerThanTheRetentionIsTold(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.Retention = time.Hour })
	live := r.open("5", "")
	start := live.expect("connected", "").id
	r.source.fail(errors.New("away"))
	waiting := r.open("5", "&last_event_id="+start) // its replay waits for Postgres
	waiting.expect("connected", "")
	eventually(r, "the replay waits", func() bool { return r.asleep() == 1 })
	r.source.fail(nil)
	late := store.MakeCursor([16]byte{1}, 1, time.Unix(1_700_000_000, 0).Add(2*time.Hour), store.Snapshot{Xmax: 9})
	r.deliver(store.Batch{Cursor: late})
	for _, c := range []*client{live, waiting} {
		if e := c.expect("reset", `{"reason":"expired"}`); e.id != late.String() {
			t.Errorf("the reset carries %q, want the new position", e.id)
		}
	}
}

// Two newcomers that choose the same oldest stream would leave one too many.
func TestStreamsOfOneUserAreBounded(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.MaxStreamsPerUser, c.MaxStreams = 1, 100_000 })
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 500 {
				s := &stream{recipient: store.Recipient{UserKey: "5"}, out: silent{}}
				if _, refused := r.hub.register(s, true, func(*position) []*event { return nil }); refused != nil {
					t.Error(refused)
				}
			}
		})
	}
	running.Wait()
	if n := r.Streams(); n != 1 {
		t.Errorf("%d streams of one user", n)
	}
}

package gateway

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-64e334f9/notification-gateway/store"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Clients are written against these bytes: a change must be seen in review.
func TestWireFormat(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		t := r.T
		c := r.open("5", "")
		raw := c.next().raw
		b := r.source.add("5", "5")
		r.source.rows[1].Data = []byte(`{"id":2,"title":"ü\n"}`)
		r.deliver(b)
		raw += c.next().raw + c.next().raw
		r.hub.tick(time.Date(2024, 1, 10, 10, 30, 0, 5, time.UTC)) // first bucket
		raw += c.next().raw
		r.hub.end(r.streamOf("5"), endDraining)
		raw += c.next().raw
		d := r.open("abc", "&last_event_id=nonsense")
		raw += d.next().raw + d.next().raw
		raw = regexp.MustCompile(`retry: \d{4}\n`).ReplaceAllString(raw, "retry: NNNN\n")
		const golden = "testdata/wire.golden"
		if *update {
			if err := os.WriteFile(golden, []byte(raw), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || raw != string(want) {
			t.Errorf("the wire format differs (%v):\n%s", err, raw)
		}
	})
}

// Every tab of a user gets everything, and nobody gets another's; with nobody
// connected nothing is loaded at all.
func TestFanOut(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		t := r.T
		r.deliver(r.source.add("5", "6"))
		if r.source.loads != 0 {
			t.Errorf("%d rows were loaded for nobody", r.source.loads)
		}
		tabs := []*client{r.open("5", ""), r.open("5", ""), r.open("7", "")}
		for _, c := range tabs {
			c.expect("connected", "")
		}
		r.deliver(r.source.add("5", "6", "7", "5"))
		for _, c := range tabs[:2] {
			c.expect("notification", `{"id":4}`)
			c.expect("notification", `{"id":7}`)
		}
		tabs[2].expect("notification", `{"id":6}`)
		if r.source.loads != 3 {
			t.Errorf("%d rows were loaded, want 3: once for each, none for who is away", r.source.loads)
		}
	})
}

// A client that breaks off inside a batch must get the rest of it again: only
// the last event may carry the position after the batch.
func TestOnlyTheLastEventOfABatchCarriesItsPosition(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		t := r.T
		c := r.open("5", "")
		before := c.expect("connected", "").id
		b := r.source.add("5", "7", "5")
		r.deliver(b)
		if first := c.next(); first.id != before {
			t.Errorf("the first carries %q, want the position before", first.id)
		}
		if last := c.next(); last.id != b.Cursor.String() {
			t.Errorf("the last carries %q, want the batch's", last.id)
		}
	})
}

// Between registering and going live rows must neither fall into a gap nor
// stop a stream: random batches meet random reconnects.
func TestResumeLosesNothing(t *testing.T) {
	bothWays(t, func(c *Config, _ *fakeVerifier) { c.MaxStreamsPerUser = 1000 }, func(r *rig) {
		t := r.T
		const total, clients = 400, 6
		var running sync.WaitGroup
		for i := range clients {
			first := r.open("5", "")
			last := first.expect("connected", "").id // from here on nothing may be missed
			first.body.Close()
			running.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(i)))
				seen := map[string]bool{}
				for len(seen) < total {
					c := r.open("5", "&last_event_id="+last)
					for n := random.IntN(40); n > 0 && len(seen) < total; n-- {
						e := c.next()
						if e.event == "reset" || e.event == "error" {
							t.Errorf("client %d got %s %s", i, e.event, e.data)
							return
						}
						if e.id != "" {
							last = e.id
						}
						if e.event == "notification" {
							seen[e.data] = true
						}
					}
					c.body.Close()
				}
			})
		}
		random := rand.New(rand.NewPCG(2, 2))
		for n := 0; n < total; {
			users := []string{}
			for range 1 + random.IntN(5) {
				if random.IntN(2) == 0 && n < total {
					users = append(users, "5")
					n++
				} else {
					users = append(users, "7")
				}
			}
			r.deliver(r.source.add(users...))
		}
		running.Wait()
	})
}

// What comes while a replay is under way comes after it, once.
func TestBatchesDuringAReplayComeAfterIt(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		t := r.T
		c := r.open("5", "")
		start := c.expect("connected", "").id
		r.deliver(r.source.add("5"))
		r.source.replayed = make(chan struct{})
		d := r.open("5", "", "Last-Event-ID", start)
		if got := d.expect("connected", "").id; got != start {
			t.Errorf("connected carries %q before the replay, want the client's own %q", got, start)
		}
		r.deliver(r.source.add("5", "5"))
		close(r.source.replayed)
		for n := 2; n <= 4; n++ {
			d.expect("notification", fmt.Sprintf(`{"id":%d}`, n))
		}
		r.deliver(r.source.add("5"))
		d.expect("notification", `{"id":5}`)
	})
}

// A row whose lookup waits for a lock of the CRM's must keep nobody else from
// theirs, and comes, with what follows it, when it can be read.
func TestLateRowComesAfterwards(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		late, other := r.open("5", ""), r.open("7", "")
		late.expect("connected", "")
		other.expect("connected", "")
		r.deliver(r.source.add("5", "7"))
		late.expect("notification", `{"id":2}`)
		other.expect("notification", `{"id":3}`)
		r.source.mu.Lock()
		r.source.late, r.source.replayed = "4", make(chan struct{})
		r.source.mu.Unlock()
		r.deliver(r.source.add("5", "7", "5"))
		other.expect("notification", `{"id":5}`)
		r.deliver(r.source.add("5", "7"))
		other.expect("notification", `{"id":8}`)
		close(r.source.replayed)
		for _, n := range []int{4, 6, 7} {
			late.expect("notification", fmt.Sprintf(`{"id":%d}`, n))
		}
		r.deliver(r.source.add("5"))
		late.expect("notification", `{"id":9}`)
	})
}

// A bulk insert comes in parts. Who resumes between two of them must get the
// first part too, and the rest once.
func TestResumeInsideATransaction(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		start := r.open("5", "").expect("connected", "").id
		first := r.source.add("5", "5")
		first.Partial = true
		r.deliver(first)
		c := r.open("5", "&last_event_id="+start)
		c.expect("connected", "")
		fresh := r.open("5", "")
		fresh.expect("connected", "")
		r.deliver(r.source.add("5"))
		for n := 2; n <= 4; n++ {
			c.expect("notification", fmt.Sprintf(`{"id":%d}`, n))
		}
		fresh.expect("notification", `{"id":4}`)
		r.deliver(r.source.add("5"))
		c.expect("notification", `{"id":5}`)
	})
}

// A loss that is told once and then forgotten with the connection is a loss in
// silence: until the reset has been read, the client holds a stale cursor.
func TestReset(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		t := r.T
		c := r.open("5", "&last_event_id=forged")
		first := c.expect("connected", "").id
		if _, known := r.source.known[first]; known || first == "" {
			t.Errorf("connected carries %q, which proves that nothing was missed", first)
		}
		if second := c.expect("reset", `{"reason":"malformed"}`); second.id == "" || second.id == first {
			t.Errorf("reset carries %q", second.id)
		}
		r.deliver(r.source.add("5"))
		c.expect("notification", `{"id":2}`)
	})
}

// Unread notifications come first; the position only with the last of them.
func TestUnread(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		t := r.T
		r.source.unread = []store.Notification{{Data: []byte(`{"id":"a"}`)}, {Data: []byte(`{"id":"b"}`)}}
		c := r.open("5", "&replay=unread")
		c.expect("connected", "")
		if a := c.expect("notification", `"a"`); a.id != "" {
			t.Errorf("the first of two carries %q", a.id)
		}
		b := c.expect("notification", `"b"`)
		if _, known := r.source.known[b.id]; !known {
			t.Errorf("the last carries %q, no position", b.id)
		}
		d := r.open("5", "&replay=unread&last_event_id="+b.id) // the cursor wins
		d.expect("connected", "")
		r.deliver(r.source.add("5"))
		d.expect("notification", `{"id":2}`)
		r.source.unread = nil
		e := r.open("7", "&replay=unread")
		e.expect("connected", "")
		if p := e.expect("ping", ""); p.id == "" {
			t.Error("with nothing unread no event carried a position")
		}
	})
}

// Of more unread notifications than the limit the oldest came and the newest did
// not, and the client could not know that it has a part of them.
func TestUnreadPastTheLimit(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		r.source.mu.Lock()
		r.source.unread = []store.Notification{{Data: []byte(`{"id":"a"}`)}, {Data: []byte(`{"id":"b"}`)}}
		r.source.list = store.UnreadList{Truncated: true, Unreadable: 1}
		r.source.mu.Unlock()
		c := r.open("5", "&replay=unread")
		c.expect("connected", "")
		for _, reason := range []string{"truncated", "unreadable"} {
			if e := c.expect("reset", `{"reason":"`+reason+`"}`); e.id != "" {
				r.Errorf("the reset %s carries %q, and rows are still to come", reason, e.id)
			}
		}
		c.expect("notification", `"a"`)
		if b := c.expect("notification", `"b"`); b.id == "" {
			r.Error("the last row carries no position")
		}
	})
}

// One row whose is_read could not be computed kept its user's stream from ever
// going live, in silence.
func TestUnreadThatCannotBeListed(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		r.source.mu.Lock()
		r.source.err = fmt.Errorf("test: %w", store.ErrUnreadUnreadable)
		r.source.mu.Unlock()
		c := r.open("5", "&replay=unread")
		c.expect("connected", "")
		if e := c.expect("reset", `{"reason":"unreadable"}`); e.id == "" {
			r.Error("the reset carries no position")
		}
		r.source.mu.Lock()
		r.source.err = nil
		r.source.mu.Unlock()
		r.deliver(r.source.add("5"))
		c.expect("notification", "")
	})
}

// types filters what is sent, not what is proven: a ping brings the position.
func TestTypes(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		t := r.T
		c := r.open("5", "&types=other,wanted")
		c.expect("connected", "")
		b := r.source.add("5", "5")
		r.source.rows[1].Data = []byte(`{"id":2,"notification_type":"wanted"}`)
		r.deliver(b)
		if e := c.expect("notification", `{"id":2,`); e.id != b.Cursor.String() {
			t.Errorf("the only row that is wanted carries %q, want the position after the batch", e.id)
		}
		b = r.source.add("5")
		r.deliver(b)
		r.hub.tick(time.Now())
		if p := c.expect("ping", ""); p.id != b.Cursor.String() {
			t.Errorf("the ping carries %q, want the moved position", p.id)
		}
		for range r.hub.wheel.buckets {
			r.hub.tick(time.Now())
		}
		if p := c.expect("ping", ""); p.id != "" {
			t.Errorf("a second ping carries %q though nothing moved", p.id)
		}
	})
}

// A row that cannot be read is told with a reset; one that is gone is not, but
// counted: with the wrong columns attached all of them are.
func TestUnreadableRow(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		c := r.open("5", "")
		c.expect("connected", "")
		b := r.source.add("5", "5", "5")
		r.source.rows[1].Data = nil
		r.source.rows[2].Data, r.source.rows[2].Err = nil, errors.New("broken")
		r.deliver(b)
		c.expect("reset", `{"reason":"unreadable"}`)
		c.expect("notification", `{"id":4}`)
		if n := testutil.ToFloat64(r.metrics.unknown); n != 1 {
			r.Errorf("%v rows are counted as unknown", n)
		}
	})
}

// A batch that could not be loaded must change nothing, so that it can come
// again.
func TestDeliverFails(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		t := r.T
		c := r.open("5", "")
		c.expect("connected", "")
		b := r.source.add("5")
		r.source.err = errors.New("away")
		if err := r.Deliver(t.Context(), b); err == nil {
			t.Fatal("no error")
		}
		r.source.err = nil
		r.deliver(b)
		c.expect("notification", `{"id":2}`)
	})
}

// A client that does not read must cost its buffer and no more, and hold up
// nobody.
func TestSlowConsumer(t *testing.T) {
	bothWays(t, func(c *Config, _ *fakeVerifier) { c.StreamBuffer = 1 << 20 }, func(r *rig) {
		t := r.T
		conn := r.dial()
		fmt.Fprint(conn, "GET /api/notifications/stream/?token=5 HTTP/1.1\r\nHost: x\r\n\r\n")
		one := make([]byte, 1)
		if _, err := conn.Read(one); err != nil { // it is open; nothing more is read
			t.Fatal(err)
		}
		other := r.open("5", "")
		other.expect("connected", "")
		large := []byte(`{"id":"` + strings.Repeat("x", 100_000) + `"}`)
		for n := 0; testutil.ToFloat64(r.metrics.slow) == 0; n++ {
			if n > 1000 {
				t.Fatal("100 MB were taken for a client that does not read")
			}
			b := r.source.add("5")
			r.source.rows[len(r.source.rows)-1].Data = large
			r.deliver(b)
			other.expect("notification", "xxx")
			// Time to read, so that it is no burst.
			out := r.streamOf("5").out
			eventually(r, "the slow client has had its time", func() bool { return out.Stalled() == 0 || out.Stalled() >= stallLimit })
		}
		if r.Streams() != 1 {
			t.Errorf("%d streams are left, want the other one", r.Streams())
		}
	})
}

// The ends of a stream: each with its word, and then the end.
func TestEndings(t *testing.T) {
	expires := time.Now().Add(time.Hour)
	refused := expires.Add(30*time.Second + time.Millisecond) // with the leeway: until then a client would be let in again
	bothWays(t, func(c *Config, v *fakeVerifier) { c.MaxStreamsPerUser, v.expires, v.goodUntil = 2, expires, refused }, func(r *rig) {
		t := r.T
		oldest := r.open("5", "")
		oldest.expect("connected", "")
		second := r.open("5", "")
		second.expect("connected", "")
		third := r.open("5", "")
		third.expect("connected", "")
		if e := oldest.expect("error", `"code":"replaced"`); !strings.Contains(e.raw, "retry: 60000\n") {
			t.Errorf("replaced comes as %q: 23 tabs would replace each other 60 times a minute", e.raw)
		}
		oldest.expect("end", "")
		r.hub.tick(refused.Truncate(time.Second))
		r.deliver(store.Batch{Entries: []store.Entry{{UserKey: "7", Disconnect: "x"}}, Cursor: r.source.cursor(1)})
		if r.Streams() != 2 {
			t.Fatalf("%d streams are left, want 2", r.Streams())
		}
		r.deliver(store.Batch{Entries: []store.Entry{{UserKey: "5", Disconnect: "x"}}, Cursor: r.source.cursor(1)})
		for _, c := range []*client{second, third} {
			for e := c.next(); e.event != "error"; e = c.next() {
				if e.event != "ping" {
					t.Fatalf("got %s %s", e.event, e.data)
				}
			}
			c.expect("end", "")
		}
		last := r.open("5", "")
		last.expect("connected", "")
		r.hub.tick(refused.Add(time.Second))
		last.expect("error", `"code":"token_expired"`)
		last.expect("end", "")
		if r.Streams() != 0 || len(r.hub.expiring) != 0 || len(r.hub.streams.recipients) != 0 {
			t.Errorf("something is left: %d streams, %d expiring, %d users", r.Streams(), len(r.hub.expiring), len(r.hub.streams.recipients))
		}
	})
}

// A drain tells every stream, refuses new ones, and does not wait for who is
// gone.
func TestDrain(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		t := r.T
		var all []*client
		for i := range 5 {
			c := r.open(fmt.Sprint(i), "")
			c.expect("connected", "")
			all = append(all, c)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		r.Drain(ctx)
		for _, c := range all {
			e := c.expect("error", `"code":"draining"`)
			if !strings.Contains(e.raw, "retry: ") {
				t.Errorf("no reconnection time in %q", e.raw)
			}
			c.expect("end", "")
		}
		if ctx.Err() != nil || r.Streams() != 0 {
			t.Errorf("%v, %d streams left", ctx.Err(), r.Streams())
		}
		r.Drain(ctx) // again does nothing
	})
}

// Pings that all fall into one tick would be a storm each interval.
func TestWheelSpreads(t *testing.T) {
	w := newWheel(30 * time.Second)
	var all []*stream
	for range 3000 {
		s := &stream{}
		w.add(s)
		all = append(all, s)
	}
	for i, s := range all {
		if i%3 == 0 {
			w.remove(s)
		}
	}
	for i, b := range w.buckets {
		if mean := 2000 / len(w.buckets); len(b) > 2*mean {
			t.Errorf("bucket %d holds %d, the mean is %d", i, len(b), mean)
		}
		for slot, s := range b {
			if int(s.slot) != slot || int(s.bucket) != i {
				t.Fatalf("a stream in bucket %d slot %d believes %d %d", i, slot, s.bucket, s.slot)
			}
		}
	}
}

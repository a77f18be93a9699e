package gateway

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// A client that comes from a replica which was ahead of this one must keep its
// position, and get no row again that its last event ID has seen. It was taken
// back by pings, and up to a third of all rows came twice.
func TestClientAheadOfItsReplica(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		t := r.T
		late := r.source.add("5", "5") // rows 2 and 3, which this replica has not polled yet
		r.source.mu.Lock()
		seen := r.source.cursor(3)
		r.source.mu.Unlock()
		c := r.open("5", "&last_event_id="+seen.String())
		if e := c.expect("connected", ""); e.id != seen.String() {
			t.Errorf("connected carries %q, want the client's own %q", e.id, seen)
		}
		eventually(r, "the stream is live", func() bool {
			s := r.streamOf("5")
			r.hub.mu.Lock()
			defer r.hub.mu.Unlock()
			return s.state == streamLive
		})
		r.pingAll()
		if e := c.expect("ping", ""); e.id != "" {
			t.Errorf("a ping carries %q, which is behind the client", e.id)
		}
		r.deliver(late)
		r.pingAll()
		c.expect("ping", "") // and neither row
		next := r.source.add("5")
		r.deliver(next)
		if e := c.expect("notification", `{"id":4}`); e.id != next.Cursor.String() {
			t.Errorf("a new row carries %q, want the position after it", e.id)
		}
	})
}

// A client that is told to reload may have had rows that were undone, by a recovery
// to an earlier time: what it had seen must not keep new rows from it.
func TestResetForgetsWhatTheClientHad(t *testing.T) {
	r := setup(t, nil)
	out := &recorder{}
	s := &stream{recipient: store.Recipient{UserKey: "5"}, out: out}
	at, refused := r.hub.register(s, false, func(*position) []*event { return nil })
	if refused != nil {
		t.Fatal(refused)
	}
	batch := r.source.add("5")
	r.hub.replay(s, batch.Cursor, at, false)(t.Context())
	batch.Reset = store.ResetFuture
	r.deliver(batch)
	if len(out.events) != 2 || !strings.Contains(out.events[0], "event: reset") || !strings.Contains(out.events[1], "event: notification") {
		t.Errorf("got %q, want a reset and the row", out.events)
	}
}

// pingAll pings every stream.
func (r *rig) pingAll() {
	for range r.hub.wheel.buckets {
		r.hub.tick(time.Now())
	}
}

// history is a log whose transactions have one row each and commit in any order.
type history struct {
	fakeSource
	commits []uint64 // transaction IDs in the order of their commits
}

// at returns the position of a replica that has polled after so many commits.
func (h *history) at(commits int) store.Cursor {
	done := h.commits[:commits]
	snapshot := store.Snapshot{Xmax: 1}
	if len(done) > 0 {
		snapshot.Xmax = slices.Max(done) + 1
	}
	for xid := uint64(1); xid < snapshot.Xmax; xid++ {
		if !slices.Contains(done, xid) {
			snapshot.Xip = append(snapshot.Xip, xid)
		}
	}
	return store.MakeCursor([16]byte{1}, 1, time.Unix(int64(commits), 0), snapshot)
}

// Replay gives the position with the last row alone.
func (h *history) Replay(ctx context.Context, reader store.Reader, from, to store.Cursor, after store.Place, rows, bytes int) (store.Page, error) {
	page, err := h.fakeSource.Replay(ctx, reader, from, to, after, rows, bytes)
	if n := len(page.After); n > 0 {
		clear(page.After)
		page.After[n-1] = to
	}
	return page, err
}

// replica is a gateway that follows a history at its own pace.
type replica struct {
	*Gateway
	history *history
	commits int // that it has polled
}

// poll takes some commits more.
func (r *replica) poll(t *testing.T, commits int) {
	t.Helper()
	done := min(r.commits+commits, len(r.history.commits))
	batch := store.Batch{Cursor: r.history.at(done)}
	for _, xid := range r.history.commits[r.commits:done] {
		batch.Entries = append(batch.Entries, r.history.rows[xid-1].Entry)
	}
	slices.SortFunc(batch.Entries, func(a, b store.Entry) int { return int(a.XID) - int(b.XID) })
	r.commits = done
	if err := r.Deliver(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// readCursor reads the text of a cursor of a history.
func readCursor(t *testing.T, text string) store.Cursor {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || b[0] != 1 {
		t.Fatalf("%q is no cursor of version 1", text)
	}
	var numbers []uint64 // after version, installation and incarnation, and before the MAC
	for b = b[9 : len(b)-8]; len(b) > 0; {
		number, n := binary.Uvarint(b)
		numbers, b = append(numbers, number), b[n:]
	}
	snapshot := store.Snapshot{Xmax: numbers[1]}
	for xid := snapshot.Xmax; len(numbers) > 2; numbers = numbers[1:] {
		xid -= numbers[2]
		snapshot.Xip = slices.Insert(snapshot.Xip, 0, xid)
	}
	return store.MakeCursor([16]byte{1}, 1, time.UnixMicro(int64(numbers[0])), snapshot)
}

// Replicas lag behind each other, and of two positions each may have what the
// other lacks. A client that hops between them must get every row, none that its
// last event ID has seen, and never an id that is behind the one before.
func TestClientHopsBetweenReplicasThatLag(t *testing.T) {
	const rows = 60
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 1))
		log := &history{fakeSource: fakeSource{known: map[string]store.Cursor{}}}
		for n := range rows {
			e := store.Entry{XID: uint64(n + 1), UserKey: "5", ItemID: fmt.Sprint(n)}
			log.rows = append(log.rows, store.Notification{Entry: e, Data: fmt.Appendf(nil, `{"id":%d}`, n)})
			at := max(0, len(log.commits)-random.IntN(6)) // committed before some that began earlier
			log.commits = slices.Insert(log.commits, at, e.XID)
		}
		for n := range rows + 1 {
			at := log.at(n)
			log.known[at.String()] = at
		}
		replicas := make([]*replica, 3)
		for i := range replicas {
			g := New(Config{PingInterval: time.Hour, MaxStreams: 10, MaxStreamsPerUser: 10, CursorRefresh: time.Hour, ReplayLimit: 100}, log, fakeVerifier{}, prometheus.NewRegistry())
			replicas[i] = &replica{Gateway: g, history: log}
			replicas[i].poll(t, 0)
		}
		has, got := log.at(0), map[string]bool{}
		for len(got) < rows {
			r := replicas[random.IntN(len(replicas))]
			out := &recorder{}
			s := &stream{recipient: store.Recipient{UserKey: "5"}, out: out}
			at, refused := r.hub.register(s, false, func(*position) []*event { return nil })
			if refused != nil {
				t.Fatal(refused)
			}
			began := has
			r.hub.replay(s, has, at, false)(t.Context())
			for range random.IntN(4) {
				r.poll(t, random.IntN(5))
				if random.IntN(2) == 0 {
					for range r.hub.wheel.buckets {
						r.hub.tick(time.Now())
					}
				}
			}
			r.hub.onClose(s, false)
			for _, text := range out.events {
				if _, data, found := strings.Cut(text, "event: notification\ndata: "); found {
					row := log.rows[slices.IndexFunc(log.rows, func(n store.Notification) bool { return string(n.Data) == strings.TrimSpace(data) })]
					if began.Sees(row.Entry) {
						t.Fatalf("seed %d: a client at %v got %s again", seed, began, data)
					}
					got[row.ItemID] = true
				}
				rest, found := strings.CutPrefix(text, "id: ")
				if !found {
					continue
				}
				id, _, _ := strings.Cut(rest, "\n")
				next := readCursor(t, id)
				if has.Ahead(next) {
					t.Fatalf("seed %d: the id went back from %v to %v", seed, has, next)
				}
				has = next
			}
			for _, row := range log.rows {
				if has.Sees(row.Entry) && !got[row.ItemID] {
					t.Fatalf("seed %d: the id claims row %s, which never came", seed, row.ItemID)
				}
			}
			replicas[random.IntN(len(replicas))].poll(t, random.IntN(5))
		}
	}
}

// A client that has seen a row at a replica that was ahead must still be told of
// its change, though another client's stream gets both as one.
func TestClientAheadIsToldOfChanges(t *testing.T) {
	r := setup(t, nil)
	behind := r.open("5", "&changes=true")
	behind.expect(eventConnected, "")
	batch := r.source.add("5")
	seen := batch.Cursor // of the replica that was ahead
	item := batch.Entries[0].ItemID
	change := r.source.change("5", item, store.ChangeUpdated, `{"id":0,"is_read":true}`)
	ahead := r.open("5", "&changes=true&last_event_id="+seen.String())
	ahead.expect(eventConnected, "")
	batch.Entries, batch.Cursor = append(batch.Entries, change.Entries...), change.Cursor
	eventually(t, "the client is live", func() bool {
		r.hub.mu.Lock()
		defer r.hub.mu.Unlock()
		return r.hub.catchingUp == 0
	})
	r.deliver(batch)
	behind.expect(eventNotification, "")
	ahead.expect("updated", `"is_read":true`)
}

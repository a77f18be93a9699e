package store

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// history is a model of the log: transactions begin, write for users, and end
// in any order; every poll makes a batch.
type history struct {
	random  *rand.Rand
	next    uint64
	running []uint64
	rows    map[uint64][]Entry // of transactions that have not ended
	ended   []Entry            // not polled yet
	all     []Entry            // polled
	at      time.Time
	place   int64
}

func (h *history) step() {
	switch {
	case len(h.running) < 6 && h.random.IntN(2) == 0:
		h.running = append(h.running, h.next)
		h.next++
	case len(h.running) > 0:
		i := h.random.IntN(len(h.running))
		xid := h.running[i]
		if h.random.IntN(3) > 0 {
			h.place++
			h.rows[xid] = append(h.rows[xid], Entry{XID: xid, Position: h.place, UserKey: string('a' + rune(h.random.IntN(3)))})
			return
		}
		h.ended = append(h.ended, h.rows[xid]...)
		delete(h.rows, xid)
		h.running = append(h.running[:i:i], h.running[i+1:]...)
	}
}

func (h *history) poll(incarnation uint32) Batch {
	h.at = h.at.Add(time.Second)
	snapshot := Snapshot{Xmax: h.next, Xip: append([]uint64(nil), h.running...)}
	batch := Batch{Entries: h.ended, Cursor: MakeCursor([16]byte{1}, incarnation, h.at, snapshot)}
	h.all, h.ended = append(h.all, h.ended...), nil
	return batch
}

// Whatever the memory answers must be what the log holds: rows of a batch that
// was dropped, refused, cut in two or made in another life of the server are
// where it could skip some.
func TestRecentAnswersAsTheLog(t *testing.T) {
	answered := 0
	for seed := range uint64(300) {
		h := &history{random: rand.New(rand.NewPCG(seed, 1)), next: 100, rows: map[uint64][]Entry{}, at: time.Unix(1, 0)}
		r := newRecent(20)
		var cursors []Cursor
		incarnation := uint32(1)
		for range 60 {
			for range h.random.IntN(12) {
				h.step()
			}
			if h.random.IntN(30) == 0 {
				incarnation++
			}
			batch := h.poll(incarnation)
			if n := len(batch.Entries); n > 1 && h.random.IntN(10) == 0 {
				cut := Batch{Entries: batch.Entries[:n/2], Cursor: batch.Cursor.inside(batch.Entries[n/2-1].place(), Cursor{}), Partial: true}
				r.add(cut)
				r.delivered()
				batch.Entries = batch.Entries[n/2:]
			}
			if h.random.IntN(8) == 0 { // refused
				r.add(batch)
			}
			r.add(batch)
			r.delivered()
			cursors = append(cursors, batch.Cursor)
		}
		if n := r.next - r.first; n > 20 || len(r.rows) > 20 || len(r.users) > n {
			t.Fatalf("seed %d: %d rows of %d users are kept, in %d places", seed, n, len(r.users), len(r.rows))
		}
		for _, from := range cursors {
			for _, user := range []string{"a", "b", "c"} {
				got, ok := r.replay(Reader{Keys: []string{user}}, from, Place{}, 1000)
				if !ok {
					continue
				}
				answered++
				want := map[int64]bool{}
				for _, e := range h.all {
					if e.UserKey == user && !from.snapshot.Sees(e.XID) {
						want[e.Position] = true
					}
				}
				seen := map[int64]bool{}
				for i, e := range got {
					seen[e.Position] = true
					if i > 0 && (got[i-1].XID > e.XID || got[i-1].XID == e.XID && got[i-1].Position >= e.Position) {
						t.Fatalf("seed %d: out of order: %v", seed, got)
					}
				}
				if !reflect.DeepEqual(seen, want) {
					t.Fatalf("seed %d: got %v, want %v", seed, seen, want)
				}
				for i := range got { // page by page
					page, ok := r.replay(Reader{Keys: []string{user}}, from, got[i].place(), 2)
					if rest := got[i+1:]; !ok || !reflect.DeepEqual(append([]Entry{}, page...), append([]Entry{}, rest[:min(2, len(rest))]...)) {
						t.Fatalf("seed %d: after %d the page is %v of %v", seed, i, page, got)
					}
					inside := from // of got[i]'s transaction
					inside.place = got[i].place()
					rest := slices.DeleteFunc(slices.Clone(got), func(e Entry) bool { return e.XID == got[i].XID && e.Position <= got[i].Position })
					if resumed, ok := r.replay(Reader{Keys: []string{user}}, inside, Place{}, 1000); !ok || !slices.Equal(resumed, rest) {
						t.Fatalf("seed %d: inside after %d came %v of %v", seed, i, resumed, got)
					}
				}
			}
		}
	}
	if answered < 1000 {
		t.Errorf("only %d questions were answered from memory", answered)
	}
}

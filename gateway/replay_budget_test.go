package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// Replays get their memory in turn, one that has left gives its turn up, and what
// was counted beyond the memory makes them slow but not stop: lists of IDs can
// only shrink when a page is read.
func TestReplayBudgetIsGrantedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newReplayBudget(1 << 20)
		b.count(replayMemory - 2*pageMax) // two pages are left
		var order []int
		for range 2 {
			if bytes, err := b.take(t.Context()); err != nil || bytes != pageMax {
				t.Fatal(bytes, err)
			}
		}
		leaving, leave := context.WithCancel(t.Context())
		for i, ctx := range []context.Context{leaving, t.Context(), t.Context(), t.Context()} {
			go func() {
				if _, err := b.take(ctx); err == nil {
					order = append(order, i)
				}
			}()
			synctest.Wait()
		}
		leave()
		synctest.Wait()
		b.give(pageMax)
		synctest.Wait()
		if fmt.Sprint(order) != "[1]" {
			t.Errorf("one page was granted to %v, want the first that did not leave", order)
		}
		b.count(2 * replayMemory)
		b.give(pageMax)
		synctest.Wait()
		if len(order) != 1 {
			t.Errorf("a page was granted beyond the memory, with another in use: %v", order)
		}
		b.give(pageMax)
		synctest.Wait()
		b.give(pageMax)
		synctest.Wait()
		if fmt.Sprint(order) != "[1 2 3]" {
			t.Errorf("granted to %v, want one page after the other", order)
		}
		b.give(pageMax)
		b.count(-3*replayMemory + 2*pageMax)
		if b.free != replayMemory || b.pages != 0 || b.waiting.Len() != 0 {
			t.Errorf("%d bytes are free, %d pages in use, %d wait", b.free, b.pages, b.waiting.Len())
		}
	})
}

// With very many replays a page must be small: clients that do not read have one
// each in their buffers.
func TestReplayPagesShrink(t *testing.T) {
	for replays, want := range map[int]int{1: pageMax, 500: pageMax, 2000: replayMemory / 2000, 100_000: pageMin} {
		b := newReplayBudget(1 << 20)
		for range replays {
			b.begin()
		}
		if bytes, err := b.take(t.Context()); err != nil || bytes != want {
			t.Errorf("a page of %d replays has %d bytes, want %d", replays, bytes, want)
		}
	}
	if b := newReplayBudget(16 << 10); b.page != 12<<10 {
		t.Errorf("a page has %d bytes where a buffer holds 16384", b.page)
	}
}

// A client that does not read must cost a page and hold nobody up. Each of them
// held a thousand rows: 500 clients with 1,000 rows of 700 bytes took 727 MB.
func TestReplayForAClientThatDoesNotRead(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		start := r.open("5", "").expect("connected", "").id
		users := make([]string, 2000)
		for i := range users {
			users[i] = fmt.Sprint(6 + i%2)
		}
		batch := r.source.add(users...)
		for i := range r.source.rows {
			r.source.rows[i].Data = fmt.Appendf(nil, `{"id":%d,"x":"%s"}`, i+1, strings.Repeat("x", 10_000))
		}
		r.deliver(batch)
		r.hub.replays.count(replayMemory - pageMax) // one page is left for all
		conn := r.dial()
		fmt.Fprintf(conn, "GET /api/notifications/stream/?token=6&last_event_id=%s HTTP/1.1\r\nHost: x\r\n\r\n", start)
		eventually(r, "the replay waits for its client", func() bool {
			r.hub.mu.Lock()
			open := r.hub.catchingUp == 1
			r.hub.mu.Unlock()
			return open && r.streamOf("6").out.Stalled() > 0
		})
		other := r.open("7", "&last_event_id="+start)
		other.expect("connected", "")
		for i := range users {
			if i%2 == 1 {
				other.expect("notification", fmt.Sprintf(`{"id":%d,`, i+2))
			}
		}
		eventually(r, "the memory is given back", func() bool {
			r.hub.replays.mu.Lock()
			defer r.hub.replays.mu.Unlock()
			return r.hub.replays.free == pageMax && r.hub.replays.pages == 0
		})
	})
}

// A row that no buffer holds counts until its client has taken it: many clients
// that do not read could have one each.
func TestReplayCountsALargeRow(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		start := r.open("5", "").expect("connected", "").id
		batch := r.source.add("6")
		r.source.rows[1].Data = []byte(`{"id":"` + strings.Repeat("x", 16<<20) + `"}`)
		r.deliver(batch)
		c := r.open("6", "&last_event_id="+start)
		c.expect("connected", "")
		free := func() int {
			r.hub.replays.mu.Lock()
			defer r.hub.replays.mu.Unlock()
			return r.hub.replays.free
		}
		eventually(r, "the row counts", func() bool { return free() < replayMemory-16<<20 })
		c.expect("notification", "xxx")
		eventually(r, "the row counts no more", func() bool { return free() == replayMemory })
	})
}

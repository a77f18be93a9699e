package store_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// bulk is the statement that inserts rows in one transaction, with titles from
// "name first" to "name last".
func bulk(user int, name string, first, last int) string {
	return fmt.Sprintf("INSERT INTO notifications (user_id, notification_type, title, message) SELECT %d, 'x', '%s ' || i, 'm' FROM generate_series(%d, %d) i;", user, name, first, last)
}

// numbered are the titles of a bulk.
func numbered(name string, first, last int) (titles []string) {
	for i := first; i <= last; i++ {
		titles = append(titles, fmt.Sprint(name, " ", i))
	}
	return titles
}

// A position that claims whole transactions starts a large one over whenever
// the connection breaks, so that a slow client never gets past it; one that
// claims too much hides the rest of it, or what another transaction wrote
// meanwhile.
func TestReplayResumesInsideATransaction(t *testing.T) {
	t.Parallel()
	c := setup(t)
	late, one, other := c.connect(), c.connect(), c.connect()
	c.on(late, "BEGIN; %s", bulk(5, "late", 1, 2))
	c.sql("%s", insert(5, "start"))
	start := c.collectBatch(1).Cursor
	c.on(one, "BEGIN; %s", bulk(5, "one", 1, 4))
	c.on(other, "BEGIN; %s", bulk(5, "other", 1, 3))
	c.on(one, "%s%s COMMIT", bulk(7, "not yours", 1, 150), bulk(5, "one", 5, 8)) // more than a session draws positions at a time
	c.on(other, "%s COMMIT", bulk(5, "other", 4, 6))
	want := append(numbered("one", 1, 8), numbered("other", 1, 6)...)
	var end store.Cursor
	for n := 0; n < len(want)+150; {
		b := c.next()
		n, end = n+len(b.Entries), b.Cursor
	}
	replica := c.replica()
	inside := map[string]store.Cursor{} // by the title of the row that was read last
	for name, s := range map[string]*store.Store{"memory": c.store, "the log": replica.store} {
		for _, limit := range []int{1, 3, 4, 100} {
			got, after := c.replay(s, start, end, limit)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("from %s, limit %d: %v", name, limit, got)
			}
			for i, position := range after {
				if rest, _ := c.replay(s, c.parse(position), end, limit); len(rest)+i+1 != len(want) || len(rest) > 0 && !reflect.DeepEqual(rest, want[i+1:]) {
					t.Errorf("from %s, limit %d: after %q came %v", name, limit, want[i], rest)
				}
				inside[want[i]] = position
			}
		}
	}
	c.on(late, "COMMIT")
	final := c.collectBatch(2).Cursor
	for name, s := range map[string]*store.Store{"memory": c.store, "the log": replica.store} {
		rest := append(numbered("late", 1, 2), want[3:]...) // in order of transaction ID
		got, after := c.replay(s, c.parse(inside["one 3"]), final, 100)
		if !reflect.DeepEqual(got, rest) {
			t.Errorf("from %s: after the late commit came %v", name, got)
		}
		if got, _ = c.replay(s, c.parse(after[1]), final, 100); !reflect.DeepEqual(got, rest[2:]) {
			t.Errorf("from %s: after the late rows came %v", name, got)
		}
	}
	if n := c.metric("replay_pages_total", "log"); n != 0 {
		t.Errorf("the replica that saw it all asked the log %v times", n)
	}
	if n := replica.metric("replay_pages_total", "log"); n < 100 {
		t.Errorf("the replica that came later asked the log %v times", n)
	}
}

// A crash or a promotion hands transaction IDs out again: what a position says
// of the inside of a transaction is then said of other rows, and hides them.
func TestPlaceOfAnotherLifeIsIgnored(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "start"))
	start := c.collectBatch(1).Cursor
	c.sql("%s", bulk(5, "row", 1, 9))
	_, after := c.replay(c.store, start, c.collectBatch(9).Cursor, 4)
	inside := c.parse(after[5])
	c.newLife()
	c.sql("%s", insert(5, "new"))
	now := c.collectBatch(1).Cursor // what was delivered before does not come again
	want := append(numbered("row", 1, 9), "new")
	for _, limit := range []int{3, 100} {
		got, after := c.replay(c.store, inside, now, limit)
		if !containsAll(got, want) {
			t.Errorf("limit %d: got %v, want %v", limit, got, want)
		}
		// The positions on the way are of the new life: they count again.
		for i := range got {
			if rest, _ := c.replay(c.store, c.parse(after[i]), now, limit); !containsAll(rest, got[i+1:]) || got[i] == "row 6" && containsAll(rest, want[:6]) {
				t.Errorf("limit %d: after %q came %v", limit, got[i], rest)
			}
		}
	}
}

// The feed's own place, kept over a crash or a promotion in the middle of a bulk
// insert, hides rows of the transaction that has its ID now.
func TestFeedForgetsItsPlaceInANewLife(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.CRM(t))
	c.make(store.Config{})
	part, release := make(chan store.Batch), make(chan struct{})
	first := true
	c.run(func(b store.Batch) error {
		if b.Partial && first {
			first = false
			part <- b
			<-release
		}
		return nil
	})
	c.next()
	c.sql("%s", bulk(5, "row", 1, 10_500))
	b := <-part
	c.sql("INSERT INTO notification_gateway.log (xid, position, user_key, item_id) OVERRIDING SYSTEM VALUE VALUES ('%d', 0, '5', 'new')", b.Entries[0].XID)
	c.newLife()
	close(release)
	c.next()
	for _, e := range c.next().Entries {
		if e.ItemID == "new" {
			return
		}
	}
	t.Error("the new row did not come")
}

// A bulk insert that commits late lies below what was delivered before it. A
// position inside it that claims nothing above brings all of that again.
func TestLateBulkInsertBringsNothingElseAgain(t *testing.T) {
	t.Parallel()
	c := setup(t)
	late := c.connect()
	c.on(late, "BEGIN; %s", insert(5, "late"))
	c.sql("%s", insert(5, "start"))
	start := c.collectBatch(1).Cursor
	c.sql("%s", bulk(5, "before", 1, 10))
	c.collectBatch(10)
	c.sql("%s", bulk(5, "before", 11, 20))
	before := c.collectBatch(10).Cursor
	const rows, part = 12_000, 10_000
	c.on(late, "%s COMMIT", bulk(5, "late", 2, rows-1))
	first, second := c.collectBatch(part), c.collectBatch(rows-1-part)
	if !reflect.DeepEqual(c.titles(second.Entries[:1]), []string{fmt.Sprint("late ", part+1)}) {
		t.Error("the second part is not the rest")
	}
	c.sql("%s", insert(7, "after"))
	c.collectBatch(1) // and not what was before
	want := append(append([]string{"late"}, numbered("late", 2, part)...), numbered("before", 1, 20)...)
	got, after := c.replay(c.store, start, first.Cursor, 3000)
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%d rows came up to the first part, want %d", len(got), len(want))
	}
	rest := numbered("late", part+1, rows-1)
	for _, i := range []int{part - 1, part + 9, part + 19} {
		if got, _ := c.replay(c.store, c.parse(after[i]), second.Cursor, 3000); !reflect.DeepEqual(got, append(slices.Clone(rest), want[i+1:]...)) {
			t.Errorf("after %q came %d rows", want[i], len(got))
		}
	}
	if got, _ := c.replay(c.store, c.parse(before), second.Cursor, 3000); len(got) != rows-1 {
		t.Errorf("%d rows came to who had what was before", len(got))
	}
}

// Between two parts of a bulk insert the position is inside its transaction.
// Whoever resumes there must get the rest and no more; whoever is brought up to
// there must get the first part, which the next position takes as read.
func TestPositionBetweenTwoPartsOfABulkInsert(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "start"))
	start := c.collectBatch(1).Cursor
	const rows, part = 12_000, 10_000
	c.sql("%s", bulk(5, "row", 1, rows))
	first, second := c.collectBatch(part), c.collectBatch(rows-part)
	if !first.Partial || second.Partial {
		t.Fatal("the bulk insert did not come in two parts")
	}
	all := numbered("row", 1, rows)
	got, after := c.replay(c.store, start, first.Cursor, 3000)
	if !reflect.DeepEqual(got, all[:part]) {
		t.Fatalf("%d rows come up to the position", len(got))
	}
	for _, i := range []int{0, 2999, 7000, part - 1} { // the last position is the batch's own
		if got, _ := c.replay(c.store, c.parse(after[i]), second.Cursor, 3000); !reflect.DeepEqual(got, all[i+1:]) {
			t.Errorf("%d rows come after row %d, want %d", len(got), i+1, rows-i-1)
		}
	}
	if got, _ := c.replay(c.store, c.parse(after[8999]), first.Cursor, 3000); !reflect.DeepEqual(got, all[9000:part]) {
		t.Errorf("%d rows come between the positions, want 1000", len(got))
	}
}

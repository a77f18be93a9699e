package store_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// A replay that pages by count alone skips what an open transaction commits
// later, and one that resumes after a page must not lose the rest.
func TestReplay(t *testing.T) {
	t.Parallel()
	c := setup(t)
	late := c.connect()
	c.on(late, "BEGIN; %s", insert(5, "late"))
	c.sql("%s", insert(5, "start"))
	start := c.next().Cursor
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("row %d", i)
		want = append(want, name)
		c.sql("%s", insert(5, name)+insert(7, "not yours"))
	}
	c.sql("BEGIN; %s%s COMMIT", insert(5, "bulk a"), insert(5, "bulk b"))
	want = append(want, "bulk a", "bulk b")
	end := store.Cursor{}
	for n := 0; n < 16; {
		b := c.next()
		n += len(b.Entries)
		end = b.Cursor
	}
	fromMemory, fromLog := c.store, c.replica().store
	for _, limit := range []int{1, 2, 3, 100} {
		got, cursors := c.replay(fromMemory, start, end, limit)
		if other, same := c.replay(fromLog, start, end, limit); !reflect.DeepEqual(got, other) || !reflect.DeepEqual(cursors, same) {
			t.Errorf("limit %d: from memory %v, from the log %v", limit, got, other)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("limit %d: got %v, want %v", limit, got, want)
		}
		for i, cursor := range cursors { // a client that breaks off there resumes there
			if rest, _ := c.replay(fromLog, cursor, end, 100); len(rest) != len(want)-i-1 || !reflect.DeepEqual(rest, want[i+1:]) && len(rest) > 0 {
				t.Errorf("limit %d: after %q came %v", limit, want[i], rest)
			}
		}
	}
	c.on(late, "COMMIT")
	final := c.next().Cursor
	if got, _ := c.replay(fromMemory, end, final, 2); !reflect.DeepEqual(got, []string{"late"}) {
		t.Errorf("after the late commit %v came", got)
	}
	parsed, err := c.store.ParseCursor(start.String())
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := c.replay(fromLog, parsed, final, 4); len(got) != len(want)+1 || got[0] != "late" {
		t.Errorf("from the cursor's text %v came", got)
	}
	if n := c.metric("replay_pages_total", "log"); n != 0 {
		t.Errorf("the replica that saw it all asked the log %v times", n)
	}
}

// A position in the middle of a replay does not claim what was missed before
// the outage: it must expire with the position that the client came with, or the
// rows between are pruned and it is still believed.
func TestPositionInAReplayIsAsOldAsItsClient(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "first"))
	from := c.collectBatch(1).Cursor
	var to store.Cursor
	for _, title := range []string{"a", "b", "c"} {
		c.sql("%s", insert(5, title))
		to = c.collectBatch(1).Cursor
	}
	page, err := c.store.Replay(t.Context(), store.Reader{Keys: []string{"5"}}, from, to, store.Place{}, 100, 4<<20)
	if err != nil || len(page.After) != 3 {
		t.Fatalf("%d positions, %v", len(page.After), err)
	}
	for i, after := range page.After[:2] {
		if after.Older(from, 0) || from.Older(after, 0) {
			t.Errorf("position %d is not as old as the client's", i)
		}
	}
	if !page.After[2].Older(from, 0) {
		t.Error("the last position is as old as the client's")
	}
}

// A log row that Go cannot hold kept its user's replay waiting, as if Postgres were
// away, for as long as the row was there.
func TestReplayOfAnyTime(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "first"))
	from := c.collectBatch(1).Cursor
	c.sql("%s", insert(5, "never"))
	c.collectBatch(1)
	c.sql("UPDATE notification_gateway.log SET inserted_at = 'infinity' WHERE item_id = (SELECT id::text FROM notifications WHERE title = 'never')")
	c.sql("%s", insert(5, "last"))
	to := c.collectBatch(1).Cursor
	if got, _ := c.replay(c.replica().store, from, to, 10); !reflect.DeepEqual(got, []string{"never", "last"}) {
		t.Errorf("got %v", got)
	}
}

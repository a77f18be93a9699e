package store_test

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// replay pages from one position to another and returns the titles, and the
// position that each proves.
func (c *crm) replay(s *store.Store, from, to store.Cursor, limit int) (titles []string, cursors []store.Cursor) {
	c.Helper()
	var after store.Place
	for {
		page, err := s.Replay(c.Context(), "5", from, to, after, limit)
		if err != nil {
			c.Fatal(err)
		}
		for _, n := range page.Notifications {
			titles = append(titles, title(n))
		}
		cursors = append(cursors, page.After...)
		if !page.More {
			return titles, cursors
		}
		after = page.Next
	}
}

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

// unread brings a user's unread notifications as a stream's replay does.
func (c *crm) unread(userKey string, limit int) (titles []string, largest int) {
	c.Helper()
	list, err := c.store.Unread(c.Context(), userKey, limit)
	rest := list.Entries
	for len(rest) > 0 {
		var page []store.Notification
		if page, err = c.store.LoadPage(c.Context(), rest); err != nil || len(page) == 0 {
			break
		}
		bytes := 0
		for _, n := range page {
			titles, bytes = append(titles, title(n)), bytes+len(n.Data)
		}
		rest, largest = rest[len(page):], max(largest, bytes)
	}
	if err != nil || len(rest) > 0 {
		c.Fatalf("%d of the unread are left: %v", len(rest), err)
	}
	return titles, largest
}

// Unread notifications come oldest first, and no more than were asked for: past
// the limit the newest. The oldest came, so that a user with many never saw a new
// one.
func TestUnread(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "b")+insert(5, "a")+insert(7, "not yours")+insert(5, "c")+insert(5, "read"))
	c.sql(`UPDATE notifications SET is_read = true WHERE title = 'read'; UPDATE notifications SET created_at = now() - interval '1 day' WHERE title = 'a'`)
	for limit, want := range map[int][]string{2: {"b", "c"}, 3: {"a", "b", "c"}, 4: {"a", "b", "c"}} {
		if got, _ := c.unread("5", limit); !reflect.DeepEqual(got, want) {
			t.Errorf("limit %d: got %v, want %v", limit, got, want)
		}
		if list, err := c.store.Unread(t.Context(), "5", limit); err != nil || list.Truncated != (limit < 3) {
			t.Errorf("limit %d: truncated is %v, %v", limit, list.Truncated, err)
		}
	}
}

// A created_at that Go cannot hold took all of its user's unread notifications
// away, for as long as the row was there.
func TestUnreadOfAnyTime(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "usual"))
	for title, at := range map[string]string{"never": "infinity", "ever": "-infinity", "late": "20000-01-01", "early": "0044-03-15 BC"} {
		c.sql("INSERT INTO notifications (user_id, notification_type, title, message, created_at) VALUES (5, 'x', '%s', '', '%s')", title, at)
	}
	if got, _ := c.unread("5", 10); !reflect.DeepEqual(got, []string{"ever", "early", "usual", "late", "never"}) {
		t.Errorf("got %v", got)
	}
}

// Large unread rows were in memory all at once, or rather only as many as fit
// came, and one that cannot be read kept all others back for ever.
func TestUnreadComesInPages(t *testing.T) {
	t.Parallel()
	c := setup(t)
	const rows, size = 60, 1_000_000
	// The oldest has the highest ID, so that it is the last that Postgres sends.
	c.sql(`INSERT INTO notifications (user_id, notification_type, title, message, created_at)
		SELECT 5, 'x', %[2]d + 1 - g, repeat('x', %[1]d), now() - g * interval '1 hour' FROM generate_series(1, %[2]d) g`, size, rows)
	c.sql("ALTER TABLE notifications ALTER COLUMN task_id TYPE text")
	c.sql("INSERT INTO notifications (user_id, notification_type, title, message, task_id) VALUES (5, 'task_assignment', 'poison', '', 'T-77')")
	c.sql("%s", insert(5, "last"))
	got, largest := c.unread("5", 1000)
	if len(got) != rows+2 || got[0] != "1" || got[rows-1] != strconv.Itoa(rows) || got[rows] != "error" || got[rows+1] != "last" {
		t.Errorf("got %v", got)
	}
	if most := store.ReplayBytes + 2*size; largest > most {
		t.Errorf("%d bytes were in memory at once, want at most %d", largest, most)
	}
}

// A row whose is_read cannot be computed keeps its user's list from ever being
// made, and waiting does not help. A view that is missing comes back.
func TestUnreadThatCannotBeListed(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "poison")+insert(7, "good"))
	c.sql("ALTER VIEW notification_gateway.feed RENAME TO was")
	c.sql(`CREATE VIEW notification_gateway.feed AS SELECT id, user_key, data, created_at, CASE WHEN data ->> 'title' = 'poison' THEN (data ->> 'title')::boolean ELSE is_read END AS is_read
		FROM notification_gateway.was`)
	if _, err := c.store.Unread(t.Context(), "5", 10); !errors.Is(err, store.ErrUnlisted) {
		t.Errorf("the poisoned list gives %v", err)
	}
	if got, _ := c.unread("7", 10); !reflect.DeepEqual(got, []string{"good"}) {
		t.Errorf("another user's list gives %v", got)
	}
	c.sql("DROP VIEW notification_gateway.feed")
	if _, err := c.store.Unread(t.Context(), "5", 10); err == nil || errors.Is(err, store.ErrUnlisted) {
		t.Errorf("without the view comes %v", err)
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
	page, err := c.store.Replay(t.Context(), "5", from, to, store.Place{}, 100)
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

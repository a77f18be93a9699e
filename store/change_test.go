package store_test

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// attachAgain attaches to the reference CRM's table with options.
func (c *crm) attachAgain(options schema.AttachOptions) {
	c.t.Helper()
	options.Table, options.UserColumns, options.IDColumn = "notifications", []string{"user_id"}, "id"
	if _, err := schema.Attach(c.t.Context(), c.url, options); err != nil {
		c.t.Fatal(err)
	}
}

// told loads entries and returns what a client is told: the change, if it is one,
// and the title or the data of what has none.
func (c *crm) told(entries []store.Entry) []string {
	c.t.Helper()
	rows, err := c.store.Load(c.t.Context(), entries)
	if err != nil {
		c.t.Fatal(err)
	}
	return telling(rows)
}

func telling(rows []store.Notification) []string {
	var out []string
	for _, n := range rows {
		text := title(n)
		if text == "" {
			text = string(n.Data)
		}
		out = append(out, strings.TrimSpace(string(n.Change)+" "+text))
	}
	return out
}

// What becomes of a notification comes by the feed, in the order in which it
// happened, and says what it is now.
func TestChangesComeByTheFeed(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.attachAgain(schema.AttachOptions{OnUpdate: []string{"is_read"}, OnDelete: true})
	c.sql("%s", "INSERT INTO notifications (id, user_id, notification_type, title, message) VALUES (1, 5, 'x', 'one', 'm')")
	c.collect(1)
	c.sql("UPDATE notifications SET is_read = true")
	if got, want := c.told(c.collect(1)), []string{"updated one"}; !reflect.DeepEqual(got, want) {
		t.Errorf("an update is %q, want %q", got, want)
	}
	c.sql("BEGIN; UPDATE notifications SET is_read = false; DELETE FROM notifications; COMMIT")
	if got, want := c.told(c.collect(2)), []string{`removed {"id":1}`, `removed {"id":1}`}; !reflect.DeepEqual(got, want) {
		t.Errorf("a delete is %q, want %q", got, want)
	}
	c.sql("TRUNCATE notifications")
	entries := c.collect(1)
	if got, want := c.told(entries), []string{`refresh {"reason":"bulk"}`}; !reflect.DeepEqual(got, want) || entries[0].UserKey != "*" {
		t.Errorf("truncate is %q of %s, want %q", got, entries[0].UserKey, want)
	}
}

// A client that was away gets each row once: as a notification if it has not seen
// the row, else what became of it. One that does not ask for changes gets none.
func TestReplayWithChanges(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("INSERT INTO employees (id, first_name, last_name, email) SELECT i, 'f', 'l', i || '@changes' FROM generate_series(6, 7) i ON CONFLICT DO NOTHING")
	c.attachAgain(schema.AttachOptions{OnUpdate: []string{"is_read"}, OnDelete: true})
	insert := func(id, user, name string) {
		c.sql("INSERT INTO notifications (id, user_id, notification_type, title, message) VALUES (%s, %s, 'x', '%s', 'm')", id, user, name)
	}
	for id, name := range map[string]string{"1": "read later", "2": "deleted later", "3": "given away"} {
		insert(id, "5", name)
	}
	c.collect(3)
	start := c.last
	insert("4", "5", "new and read")
	insert("5", "5", "new and gone")
	c.sql("UPDATE notifications SET is_read = true WHERE id IN (1, 4); UPDATE notifications SET is_read = false WHERE id = 1; DELETE FROM notifications WHERE id IN (2, 5); UPDATE notifications SET user_id = 6 WHERE id = 3")
	c.collect(9)
	end := c.last
	for name, s := range map[string]*store.Store{"memory": c.store, "log": c.replica().store} {
		for changes, want := range map[bool][]string{
			true:  {"new and read", `removed {"id":5}`, "updated read later", `removed {"id":2}`, `removed {"id":3}`},
			false: {"new and read", "gone"},
		} {
			page, err := s.Replay(t.Context(), store.Reader{Keys: []string{"5"}, Changes: changes}, start, end, store.Place{}, 100, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if got := telling(page.Notifications); !reflect.DeepEqual(got, want) {
				t.Errorf("from the %s, with changes %t: %q, want %q", name, changes, got, want)
			}
		}
	}
}

// The view may show what is no notification any more. What was captured last says so,
// and last is what the row's transactions say, not what the log's order does.
func TestReplayGoesByWhatCameLast(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.attachAgain(schema.AttachOptions{OnUpdate: []string{"is_read"}, When: "NEW.title <> 'draft'"})
	c.sql("INSERT INTO notifications (id, user_id, notification_type, title, message) SELECT i, 5, 'x', 'one', 'm' FROM generate_series(1, 2) i")
	c.collect(2)
	start := c.last
	early, err := pgx.Connect(t.Context(), c.url)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close(context.Background())
	if _, err := early.Exec(t.Context(), "BEGIN; SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	c.sql("UPDATE notifications SET is_read = true")
	c.sql("UPDATE notifications SET title = 'draft'")
	if _, err := early.Exec(t.Context(), "UPDATE notifications SET title = 'again' WHERE id = 2; COMMIT"); err != nil {
		t.Fatal(err)
	}
	c.collect(5)
	page, err := c.replica().store.Replay(t.Context(), store.Reader{Keys: []string{"5"}, Changes: true}, start, c.last, store.Place{}, 100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := telling(page.Notifications), []string{"again", `removed {"id":1}`}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A stream stands under several keys, and a replay brings the rows of all, in one
// order.
func TestReplayOfSeveralKeys(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("INSERT INTO employees (id, first_name, last_name, email) SELECT i, 'f', 'l', i || '@changes' FROM generate_series(6, 7) i ON CONFLICT DO NOTHING")
	c.sql("%s", insert(5, "start"))
	start := c.next().Cursor
	c.sql("%s", insert(5, "mine"))
	c.sql("%s", insert(6, "theirs"))
	c.sql("%s", insert(7, "of the group"))
	c.sql("%s", insert(5, "mine again"))
	c.collect(4)
	end := c.last
	want := []string{"mine", "of the group", "mine again"}
	for name, s := range map[string]*store.Store{"memory": c.store, "log": c.replica().store} {
		for _, limit := range []int{1, 2, 100} {
			var got []string
			for after, more := (store.Place{}), true; more; {
				page, err := s.Replay(t.Context(), store.Reader{Keys: []string{"5", "7", "*"}}, start, end, after, limit, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				got, after, more = append(got, telling(page.Notifications)...), page.Next, page.More
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("from the %s, %d at a time: %q, want %q", name, limit, got, want)
			}
		}
	}
}

// A notification whose time lies ahead comes when it is due, though nobody writes
// then, also when no gateway ran at that time, and from several gateways once.
func TestNotificationsComeWhenTheyAreDue(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("ALTER TABLE notifications ADD send_at timestamptz")
	c.attachAgain(schema.AttachOptions{DueColumn: "send_at"})
	later := func(name string, pause time.Duration) {
		c.sql("INSERT INTO notifications (user_id, notification_type, title, message, send_at) VALUES (5, 'x', '%s', 'm', clock_timestamp() + interval '%d ms')", name, pause.Milliseconds())
	}
	second := c.replica()
	later("soon", 300*time.Millisecond)
	later("much later", time.Hour)
	for _, replica := range []*crm{c, second} {
		if got := replica.titles(replica.collect(1)); !reflect.DeepEqual(got, []string{"soon"}) {
			t.Errorf("%q came", got)
		}
	}
	var late float64
	if err := c.conn.QueryRow(t.Context(), "SELECT extract(epoch FROM l.inserted_at - n.send_at)::float8 FROM notification_gateway.log l JOIN notifications n ON n.id::text = l.item_id").Scan(&late); err != nil || late < 0 || late > 5 {
		t.Errorf("it came %v s late, %v", late, err) // the bound is that of a poll that nobody asked for
	}
	c.sql("UPDATE notifications SET send_at = clock_timestamp()")
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"much later"}) {
		t.Errorf("%q came when it was dated back", got)
	}
	if released := c.metric("due_rows_released_total", "") + second.metric("due_rows_released_total", ""); released != 1 {
		t.Errorf("%v rows were released by a gateway", released)
	}

	// As after an outage: the time passes while no gateway runs.
	away := crmAt(t, c.url)
	away.make(store.Config{})
	later("in the outage", time.Millisecond)
	away.run(func(store.Batch) error { return nil })
	for _, replica := range []*crm{c, second} {
		replica.collect(1)
	}
}

// What Postgres refuses of the due times must not stop the feed.
func TestDueTimesThatFailDoNotStopTheFeed(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("ALTER TABLE notifications ADD send_at timestamptz")
	c.attachAgain(schema.AttachOptions{DueColumn: "send_at"})
	c.sql(`CREATE OR REPLACE FUNCTION notification_gateway.release_due(rows integer, OUT released integer, OUT next_due timestamptz) LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$`)
	c.sql("INSERT INTO notification_gateway.due (item_id, user_key, at) VALUES ('1', '5', now())")
	for _, name := range []string{"one", "two"} {
		c.sql("%s", insert(5, name))
		if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{name}) {
			t.Errorf("%q came", got)
		}
	}
}

// A gateway on objects from before there were changes goes on.
func TestFeedOnObjectsWithoutChanges(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("BEGIN; DROP TABLE notification_gateway.change; DROP TABLE notification_gateway.due; DROP FUNCTION notification_gateway.history(); COMMIT")
	old := c.replica()
	c.sql("%s", insert(5, "one"))
	if got := old.titles(old.collect(1)); !reflect.DeepEqual(got, []string{"one"}) {
		t.Errorf("%q came", got)
	}
	page, err := old.store.Replay(context.Background(), store.Reader{Keys: []string{"5"}, Changes: true}, old.last, old.last, store.Place{}, 10, 1<<20)
	if err != nil || len(page.Notifications) > 0 {
		t.Errorf("a replay of changes brings %d, %v", len(page.Notifications), err)
	}
}

// Nobody saw how many notifications wait for their time, or that they wait in vain.
func TestNotificationsThatWaitAreMeasured(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("INSERT INTO notification_gateway.due VALUES ('1', '5', now() + interval '1 hour'), ('2', '5', now() + interval '2 hours')")
	c.store.ReportDue(t.Context())
	if waiting := c.metric("due_rows_waiting", ""); waiting != 2 {
		t.Errorf("%v notifications wait, want 2", waiting)
	}
}

package store_test

import (
	"errors"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

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

// A row whose is_read cannot be computed kept its user's list from ever being
// made, and waiting does not help: the others come without it. A view that is
// missing comes back.
func TestUnreadWithoutTheRowThatCannotBeJudged(t *testing.T) {
	t.Parallel()
	c := setup(t)
	for i, title := range []string{"b", "poison", "read", "a", "c", "never"} {
		at := map[string]string{"a": "2020-01-01", "never": "infinity"}[title]
		c.sql("INSERT INTO notifications (user_id, notification_type, title, message, is_read, created_at) VALUES (5, 'x', '%[1]s', '', '%[1]s' = 'read', coalesce(nullif('%[2]s', '')::timestamptz, now() + interval '%[3]d seconds'))", title, at, i)
	}
	c.sql("ALTER VIEW notification_gateway.feed RENAME TO was")
	c.sql(`CREATE VIEW notification_gateway.feed AS SELECT id, user_key, data, created_at, CASE WHEN data ->> 'title' = 'poison' THEN (data ->> 'title')::boolean ELSE is_read END AS is_read
		FROM notification_gateway.was`)
	for limit, want := range map[int][]string{2: {"c", "never"}, 10: {"a", "b", "c", "never"}} {
		list, err := c.store.Unread(t.Context(), "5", limit)
		if err != nil || list.Unreadable != 1 || list.Truncated != (limit == 2) {
			t.Errorf("limit %d: %+v, %v", limit, list, err)
		}
		if got, _ := c.unread("5", limit); !reflect.DeepEqual(got, want) {
			t.Errorf("limit %d: got %v, want %v", limit, got, want)
		}
	}
	c.sql("DROP VIEW notification_gateway.feed")
	if _, err := c.store.Unread(t.Context(), "5", 10); err == nil || errors.Is(err, store.ErrUnreadUnreadable) {
		t.Errorf("without the view comes %v", err)
	}
}

// A list that takes too long was asked for again and again, and never came: with
// several pages of its user all connections were busy with it, and others waited
// for theirs.
func TestUnreadThatTakesTooLong(t *testing.T) {
	t.Parallel()
	c := setup(t)
	from := c.last
	c.sql("%s", insert(5, "many")+insert(7, "few"))
	to := c.next().Cursor
	c.sql("CREATE SEQUENCE asked; GRANT ALL ON asked TO PUBLIC")
	c.sql(`CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM nextval('public.asked'); PERFORM pg_sleep(60); RETURN false; END $$;
		ALTER VIEW notification_gateway.feed RENAME TO was;
		CREATE VIEW notification_gateway.feed AS SELECT id, user_key, data, created_at, CASE WHEN user_key = 5 THEN slow() ELSE is_read END AS is_read FROM notification_gateway.was`)
	c.store.HurryLists(time.Second)
	const pages = 8
	late := make(chan error, pages)
	for range pages {
		go func() { _, err := c.store.Unread(t.Context(), "5", 10); late <- err }()
	}
	busy := func() (n int) {
		if err := c.conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	eventually(t, "a list is being made", func() bool { return busy() > 0 })
	if n := busy(); n > 1 {
		t.Errorf("%d lists of one user are made at once", n)
	}
	if got, _ := c.unread("7", 10); !reflect.DeepEqual(got, []string{"few"}) {
		t.Errorf("meanwhile another user's list gives %v", got)
	}
	if got, _ := c.replay(c.replica().store, from, to, 10); !reflect.DeepEqual(got, []string{"many"}) {
		t.Errorf("meanwhile a replay gives %v", got)
	}
	for range pages {
		if err := <-late; !errors.Is(err, store.ErrUnreadUnreadable) {
			t.Errorf("the list that takes too long gives %v", err)
		}
	}
	var asked int
	if err := c.conn.QueryRow(t.Context(), "SELECT last_value FROM asked").Scan(&asked); err != nil || asked != 2 {
		t.Errorf("it was asked for %d times, want two, %v", asked, err)
	}
}

// The list of a user with hundreds of thousands of unread notifications computed
// all of them to bring a thousand. Mapped as the page says, it reads no more rows
// than it brings.
func TestUnreadIsBoundedByTheIndexOfThePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../sql/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "### Users with very many unread notifications")
	_, block, _ = strings.Cut(block, "```sql\n")
	block, _, _ = strings.Cut(block, "```")
	lines := strings.Split(block, "\n")
	if len(lines) < 4 {
		t.Fatalf("the page has %q", block)
	}
	columns, index := lines[1], lines[3]
	mapping := strings.Replace(sql.MappingReferenceCRM, "  (j->>'created_at')::timestamptz AS created_at,\n  (j->>'is_read')::boolean AS is_read\n", "  "+columns+"\n", 1)
	if mapping == sql.MappingReferenceCRM {
		t.Fatal("the mapping has no such lines any more")
	}
	c := setup(t)
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: mapping}); err != nil {
		t.Fatal(err)
	}
	c.sql("%s", index)
	c.sql("SET session_replication_role = replica; INSERT INTO notifications (user_id, notification_type, title, message, created_at) SELECT 5, 'x', i, '', now() + i * interval '1 s' FROM generate_series(1, 20000) i; ANALYZE notifications")
	c.sql("SET plan_cache_mode = force_generic_plan; SET jit = off; PREPARE q AS %s", store.UnreadSQL("bigint"))
	rows, err := c.conn.Query(t.Context(), "EXPLAIN (ANALYZE, TIMING off) EXECUTE q('5', 1001)")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if text := strings.Join(plan, "\n"); err != nil || !strings.Contains(text, "notifications_unread") || strings.Contains(text, "Sort") || strings.Contains(text, "actual rows=20000 ") {
		t.Errorf("%v\n%s", err, text)
	}
	if got, _ := c.unread("5", 3); !reflect.DeepEqual(got, []string{"19998", "19999", "20000"}) {
		t.Errorf("got %v", got)
	}
}

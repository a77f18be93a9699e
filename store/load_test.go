package store_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// The document's notification, key by key and in its order: clients and their
// tests compare texts.
func TestLoadGivesTheDocumentedNotification(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql(`INSERT INTO tasks (id, title, description, priority, status, due_date, due_time)
		VALUES (123, 'Complete project', 'Finish the project documentation', 'high', 'to_do', '2024-01-15', '17:00');
		INSERT INTO leads (id, first_name, last_name, company_name) VALUES (9, 'Ada', '', 'Analytical');
		INSERT INTO task_reminders (id, task_id, remind_at) VALUES (3, 123, '2024-01-10T11:30:00.5+01:00');
		INSERT INTO notifications (id, user_id, notification_type, title, message, lead_id, task_id, reminder_id, metadata, created_at, updated_at) VALUES
		(1, 5, 'task_assignment', 'Task Assigned: Complete project', 'a "b"' || chr(10) || 'c', NULL, 123, NULL, '{"priority": "high"}', '2024-01-10T10:30:00Z', '2024-01-10T10:30:00Z'),
		(2, 5, 'lead_assignment', 'L', 'm', 9, NULL, NULL, '{}', '2024-01-10T10:30:00Z', '2024-01-10T10:30:00Z'),
		(3, 5, 'task_reminder', 'R', 'm', NULL, 123, 3, '{}', '2024-01-10T10:30:00Z', '2024-01-10T10:30:00Z'),
		(4, 5, 'task_reminder', 'R', 'm', NULL, 99, 99, '{}', '2024-01-10T10:30:00Z', '2024-01-10T10:30:00Z'),
		(5, 5, 'other', 'O', 'm', 9, 123, 3, '{}', '2024-01-10T10:30:00Z', '2024-01-10T10:30:00Z')`)
	rows, err := c.store.Load(t.Context(), c.collect(5))
	if err != nil {
		t.Fatal(err)
	}
	const task = `"task_data":{"id":123,"title":"Complete project","description":"Finish the project documentation","priority":"high","status":"to_do","due_date":"2024-01-15","due_time":"17:00:00"}`
	const end = `"is_read":false,"read_at":null,"created_at":"2024-01-10T10:30:00Z","updated_at":"2024-01-10T10:30:00Z"}`
	want := []string{
		`{"id":1,"user":5,"notification_type":"task_assignment","title":"Task Assigned: Complete project","message":"a \"b\"\nc","lead_id":null,"task_id":123,"reminder_id":null,"metadata":{"priority":"high"},` + task + `,` + end,
		`{"id":2,"user":5,"notification_type":"lead_assignment","title":"L","message":"m","lead_id":9,"task_id":null,"reminder_id":null,"metadata":{},"lead_data":{"id":9,"full_name":"Ada","company_name":"Analytical","email_address":"","contact_number":"","status":"new","lead_type":"inbound"},` + end,
		`{"id":3,"user":5,"notification_type":"task_reminder","title":"R","message":"m","lead_id":null,"task_id":123,"reminder_id":3,"metadata":{},` + task + `,"reminder_data":{"id":3,"remind_at":"2024-01-10T10:30:00.5Z","is_sent":false},` + end,
		`{"id":4,"user":5,"notification_type":"task_reminder","title":"R","message":"m","lead_id":null,"task_id":99,"reminder_id":99,"metadata":{},"task_data":null,"reminder_data":null,` + end,
		`{"id":5,"user":5,"notification_type":"other","title":"O","message":"m","lead_id":9,"task_id":123,"reminder_id":3,"metadata":{},` + end,
	}
	for i, n := range rows {
		if string(n.Data) != want[i] {
			t.Errorf("notification %d\n got %s\nwant %s", i+1, n.Data, want[i])
		}
	}
}

// A batch of thousands is loaded in pages: each row must keep its place, and
// one that is broken must stay alone.
func TestLoadInPages(t *testing.T) {
	t.Parallel()
	c := setup(t)
	const rows = 1300
	c.sql("INSERT INTO notifications (user_id, notification_type, title, message) SELECT 5, 'x', i, 'm' FROM generate_series(1, %d) i", rows)
	entries := c.collect(rows)
	entries[700].ItemID = "no number"
	entries[900] = entries[899] // the same row once more
	got, err := c.store.Load(t.Context(), entries)
	if err != nil || len(got) != rows {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	for i, n := range got {
		title := i + 1
		if i == 900 {
			title = i
		}
		switch {
		case i == 700:
			if n.Err == nil {
				t.Errorf("the broken row is %s", n.Data)
			}
		case n.ItemID != entries[i].ItemID || !strings.Contains(string(n.Data), fmt.Sprintf(`"title":"%d"`, title)):
			t.Fatalf("row %d is %s, %v", i, n.Data, n.Err)
		}
	}
}

// One row that cannot be read must not stop those beside it, nor be skipped in
// silence; a row that is gone or changed hands is owed to nobody.
func TestLoadTellsBadRowsApart(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "fine")+insert(5, "deleted")+insert(5, "moved")+insert(5, "broken")+insert(5, "also fine"))
	entries := c.collect(5)
	c.sql(`DELETE FROM notifications WHERE title = 'deleted'; UPDATE notifications SET user_id = 7 WHERE title = 'moved';
		UPDATE notifications SET notification_type = 'task_assignment', task_id = 1 WHERE title = 'broken';
		ALTER TABLE task_reminders DROP CONSTRAINT task_reminders_task_id_fkey;
		ALTER TABLE tasks ALTER COLUMN id DROP IDENTITY; ALTER TABLE tasks ALTER COLUMN id TYPE uuid USING gen_random_uuid();`)
	if got, want := c.titles(entries), []string{"fine", "gone", "gone", "error", "also fine"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A view may fail for one row with any SQLSTATE: the row is unreadable, and the
// others must not wait for it.
func TestLoadOfARowThatRaises(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "fine")+insert(5, "raises")+insert(5, "also fine"))
	entries := c.collect(3)
	for _, state := range []string{"20000", "23514", "2F005", "CRM01", "XX000"} {
		c.sql(`DROP VIEW notification_gateway.feed;
			CREATE OR REPLACE FUNCTION raises(title text) RETURNS json LANGUAGE plpgsql AS $$ BEGIN
				IF title = 'raises' THEN RAISE 'x' USING ERRCODE = '%s'; END IF; RETURN json_build_object('title', title); END $$;
			CREATE VIEW notification_gateway.feed AS SELECT id, user_id AS user_key, raises(title) AS data, created_at, is_read FROM notifications`, state)
		if got, want := c.titles(entries), []string{"fine", "error", "also fine"}; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", state, got, want)
		}
	}
}

// char(n) is what UUIDs are after a move from some other databases; a cast to
// char without its length would keep one character of each.
func TestCharacterKeys(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.Database(t))
	c.sql("CREATE TABLE note (id char(12) PRIMARY KEY, recipient char(10), body text, made timestamptz DEFAULT now())")
	mapping := `CREATE OR REPLACE VIEW notification_gateway.feed AS SELECT id, recipient AS user_key, json_build_object('title', body) AS data, made AS created_at, false AS is_read FROM public.note;`
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: mapping}); err != nil {
		t.Fatal(err)
	}
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"recipient"}, IDColumn: "id"}); err != nil {
		t.Fatal(err)
	}
	c.open(store.Config{})
	c.sql("INSERT INTO note VALUES ('abcdefghijkl', 'alice', 'whole'), ('short', 'alice', 'padded')")
	entries := c.collect(2)
	if entries[0].UserKey != "alice" {
		t.Errorf("the recipient is %q", entries[0].UserKey)
	}
	if got, want := c.titles(entries), []string{"whole", "padded"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, _ := c.unread("alice", 10); len(got) != 2 {
		t.Errorf("%v are unread, want both", got)
	}
}

// A view whose data is no JSON, null or megabytes must not end the stream.
func TestLoadOfAStrangeView(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "text")+insert(5, "null")+insert(5, "large")+insert(5, "huge")+insert(5, "array")+insert(5, "lines"))
	entries := c.collect(6)
	c.sql(`DROP VIEW notification_gateway.feed; CREATE VIEW notification_gateway.feed AS
		SELECT id, user_id AS user_key, created_at, is_read, CASE title
			WHEN 'text' THEN 'no { json' WHEN 'large' THEN '{"title":"' || repeat('x', 1 << 20) || '"}'
			WHEN 'huge' THEN '{"title":"' || repeat('x', 5 << 20) || '"}' WHEN 'array' THEN '[]'
			WHEN 'lines' THEN E'{\r\n"title":\n"lines"}' END AS data
		FROM notifications`)
	got := c.titles(entries)
	if len(got[2]) != 1<<20 {
		t.Errorf("the large row came with a title of %d bytes", len(got[2]))
	}
	got[2] = "large"
	if want := []string{"error", "error", "large", "error", "error", "lines"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	rows, err := c.store.Load(t.Context(), entries[5:])
	if err != nil || strings.ContainsAny(string(rows[0].Data), "\r\n") {
		t.Errorf("a line break got through: %q, %v", rows[0].Data, err)
	}
}

// With the view gone every row would be unreadable: the feed must wait for it
// to be mended, or every user would be told to reload for nothing.
func TestLoadWaitsForAMissingView(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "x"))
	entries := c.collect(1)
	c.sql("DROP VIEW notification_gateway.feed")
	if rows, err := c.store.Load(t.Context(), entries); err == nil {
		t.Errorf("got %v, want an error", rows)
	}
}

// A trigger that raises on a null recipient would break the CRM's insert.
func TestNullRecipientReachesNobody(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("ALTER TABLE notifications ALTER user_id DROP NOT NULL; INSERT INTO notifications (notification_type, title, message) VALUES ('x', 'nobody', 'm')")
	if e := c.collect(1)[0]; e.UserKey != "" || e.ItemID == "" {
		t.Errorf("got %+v", e)
	}
}

// A view that lists the CRM's columns makes its ALTER TABLE fail, and a
// trigger that knows them by name loses rows after a rename.
func TestCRMMigratesItsTables(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql(`ALTER TABLE notifications DROP COLUMN metadata, ALTER COLUMN title TYPE text, ADD COLUMN colour text DEFAULT 'red';
		ALTER TABLE notifications RENAME COLUMN read_at TO seen_at;
		ALTER TABLE notifications RENAME COLUMN user_id TO recipient_id;
		ALTER TABLE tasks DROP COLUMN due_time, ALTER COLUMN title TYPE text, ALTER COLUMN id TYPE integer;
		ALTER TABLE leads RENAME COLUMN company_name TO company;
		ALTER TABLE employees ALTER COLUMN email TYPE text;
		ALTER TABLE auth_user ALTER COLUMN username TYPE text;
		INSERT INTO tasks (id, title) VALUES (1, 't');
		INSERT INTO notifications (recipient_id, notification_type, title, message, task_id) VALUES (5, 'task_assignment', 'still here', 'm', 1)`)
	entries := c.collect(1)
	if got := c.titles(entries); entries[0].UserKey != "5" || got[0] != "still here" {
		t.Errorf("got %v for %q", got, entries[0].UserKey)
	}
}

// The run-time role may read what it needs and nothing of the CRM.
func TestRunTimeRoleHasNoMoreRightsThanItNeeds(t *testing.T) {
	t.Parallel()
	c := setup(t)
	const role = "gateway_test_runtime"
	as := storetest.Role(t, c.url, "runtime")
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{GrantTo: role}); err != nil {
		t.Fatal(err)
	}
	c.sql("%s", insert(5, "x"))
	for _, f := range schema.Check(t.Context(), schema.CheckOptions{URL: as, Auto: true}) {
		if !f.OK {
			t.Errorf("check as that role says %+v", f)
		}
	}
	c.sql("SET ROLE %q", role)
	for _, allowed := range []string{"SELECT FROM notification_gateway.log", "SELECT data FROM notification_gateway.feed", "SELECT * FROM notification_gateway.identity", "SELECT notification_gateway.hello()", "SELECT notification_gateway.prune('1 day', 10)"} {
		if _, err := c.conn.Exec(t.Context(), allowed); err != nil {
			t.Errorf("%s: %v", allowed, err)
		}
	}
	for _, denied := range []string{"SELECT FROM notifications", "SELECT FROM employees", "DELETE FROM notification_gateway.log", "SELECT notification_gateway.disconnect('5', '')", "INSERT INTO notification_gateway.log (user_key, item_id) VALUES ('5', '1')"} {
		if _, err := c.conn.Exec(t.Context(), denied); err == nil {
			t.Errorf("%s is allowed", denied)
		}
	}
}

// Attach takes names as SQL writes them, and nothing that it was given
// reaches a statement's text.
func TestAttachAndDetach(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql(`CREATE SCHEMA "Crm"; CREATE TABLE "Crm"."Notification" ("Id" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "User" text);
		DROP VIEW notification_gateway.feed`)
	quoted := schema.AttachOptions{Table: `"Crm"."Notification"`, UserColumns: []string{"User"}, IDColumn: "Id"}
	for range 2 { // again changes nothing
		if _, err := schema.Attach(t.Context(), c.url, quoted); err != nil {
			t.Fatal(err)
		}
	}
	c.sql(`INSERT INTO "Crm"."Notification" ("User") VALUES ('o''hara')`)
	if e := c.collect(1)[0]; e.UserKey != "o'hara" || len(e.ItemID) != 36 {
		t.Errorf("got %+v", e)
	}
	for _, bad := range []schema.AttachOptions{
		{Table: "nowhere", UserColumns: []string{"user_id"}, IDColumn: "id"},
		{Table: "notifications", UserColumns: []string{"nobody"}, IDColumn: "id"},
		{Table: "notifications; DROP TABLE leads", UserColumns: []string{"user_id"}, IDColumn: "id"},
	} {
		if _, err := schema.Attach(t.Context(), c.url, bad); err == nil {
			t.Errorf("attach %+v worked", bad)
		}
	}
	if had, err := schema.Detach(t.Context(), c.url, quoted.Table); err != nil || !had {
		t.Fatal(err)
	}
	var left int
	if err := c.conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_trigger WHERE tgrelid = '"Crm"."Notification"'::regclass`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d triggers left, %v", left, err)
	}
}

// An installation from before the bell had a sequence, with a gateway that
// sleeps there: nobody must become deaf to what is inserted, or lack a right.
func TestMigrateUpgrades(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.CRM(t))
	c.sql("DROP SCHEMA notification_gateway CASCADE")
	first, err := os.ReadFile("schema/testdata/released/0001_objects.sql")
	if err != nil {
		t.Fatal(err)
	}
	role := fmt.Sprintf("old_%d", time.Now().UnixNano())
	c.sql("BEGIN; %s; INSERT INTO notification_gateway.migration VALUES (1, 'objects'); COMMIT", first)
	c.sql("CREATE ROLE %[1]s; GRANT SELECT ON notification_gateway.log TO %[1]s", role)
	defer c.sql("DROP OWNED BY %[1]s; DROP ROLE %[1]s", role)
	c.on(c.connect(), "SELECT notification_gateway.sleep()") // as an old gateway does
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: sql.MappingReferenceCRM}); err != nil {
		t.Fatal(err)
	}
	var granted bool
	if err := c.conn.QueryRow(t.Context(), "SELECT has_function_privilege($1, 'notification_gateway.mind()', 'EXECUTE')", role).Scan(&granted); err != nil || !granted {
		t.Errorf("the role may mind: %v, %v", granted, err)
	}
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "notifications", UserColumns: []string{"user_id"}, IDColumn: "id"}); err != nil {
		t.Fatal(err)
	}
	heard := c.listen()
	if c.sql("%s", insert(5, "upgraded")); !heard() {
		t.Error("nobody rang for a gateway that slept before the upgrade")
	}
}

// Rows of a megabyte in one insert were loaded whole, and a bulk insert of such
// rows would have taken all memory.
func TestLargeRowsAreLoadedInTurn(t *testing.T) {
	t.Parallel()
	l := setupLoader(t)
	const rows, size = 60, 1_000_000
	from := l.brings("before").at
	l.sql("INSERT INTO notifications (user_id, notification_type, title, message) SELECT 5, 'x', g, repeat('x', %d) FROM generate_series(1, %d) g", size, rows)
	var titles []string
	var to store.Cursor
	for len(titles) < rows {
		got := <-l.batches
		to = got.at
		titles = append(titles, got.titles...)
		if most := store.LoadBytes; got.bytes > most {
			t.Errorf("%d bytes were loaded at once, want at most %d", got.bytes, most)
		}
	}
	for i, title := range titles {
		if title != strconv.Itoa(i+1) {
			t.Fatalf("row %d came as %d", i+1, i)
		}
	}
	if got, _ := l.replay(l.store, from, to, 100); !reflect.DeepEqual(got, titles) {
		t.Errorf("a replay brings %v", got)
	}
	// What follows in usual rows is not cut for long.
	l.sql("INSERT INTO notifications (user_id, notification_type, title, message) SELECT 5, 'x', g, '' FROM generate_series(1, 1000) g")
	for most, n := 0, 0; n < 1000; {
		got := <-l.batches
		n, most = n+len(got.titles), max(most, len(got.titles))
		if n == 1000 && most < 100 {
			t.Errorf("1000 small rows came at most %d at a time", most)
		}
	}
}

// A mapping that is applied again may give the keys other types. Rows were then
// taken for unreadable, every one, until the gateway was started anew.
func TestMappingChangesTypes(t *testing.T) {
	t.Parallel()
	l := setupLoader(t)
	l.warm()
	was := sql.MappingReferenceCRM
	retyped := strings.Replace(was, "SELECT n.id, n.user_id AS user_key", "SELECT n.id::text AS id, n.user_id::text AS user_key", 1)
	if retyped == was {
		t.Fatal("the mapping has no such line any more")
	}
	for i, mapping := range []string{retyped, was} {
		if _, err := schema.Migrate(t.Context(), l.url, schema.MigrateOptions{Mapping: mapping}); err != nil {
			t.Fatal(err)
		}
		l.brings(fmt.Sprint("retyped ", i))
		if list, err := l.store.Unread(t.Context(), "5", 1000); err != nil || len(list.Entries) == 0 {
			t.Errorf("%d unread, %v", len(list.Entries), err)
		}
	}
}

// Where an integer had become a bigint, nothing failed before the first ID that
// is too large for an integer, and then every row did.
func TestMappingWidensKeys(t *testing.T) {
	t.Parallel()
	l := setupLoader(t)
	was := sql.MappingReferenceCRM
	narrow := strings.Replace(was, "SELECT n.id, n.user_id AS user_key", "SELECT n.id::integer AS id, n.user_id::integer AS user_key", 1)
	migrate := func(mapping string) {
		if _, err := schema.Migrate(t.Context(), l.url, schema.MigrateOptions{Mapping: mapping}); err != nil {
			t.Fatal(err)
		}
	}
	migrate(narrow)
	l.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()") // it learns the types anew
	l.warm()
	migrate(was)
	for i := range 2 { // with its poll, and by itself
		l.absent.Store(i == 1)
		l.sql("INSERT INTO employees (id, first_name, last_name, email) VALUES (%[1]d, 'W', '', 'w%[1]d@example.com')", 3_000_000_000+i)
		l.sql("INSERT INTO notifications (id, user_id, notification_type, title, message) VALUES (%[1]d, %[1]d, 'x', 'wide', '')", 3_000_000_000+i)
		l.delivered("wide")
	}
	if r, err := l.store.Recipient(t.Context(), "3000000000"); err != nil || r.UserKey != "3000000000" {
		t.Errorf("its user is %+v, %v", r, err)
	}
}

// A row that alone took longer than a load may was asked for again and again,
// and nobody received anything any more.
func TestLateRowHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.store.HurryLoads(2 * time.Second)
	c.sql("ALTER VIEW notification_gateway.feed RENAME TO was")
	c.sql("CREATE VIEW notification_gateway.feed AS SELECT id, user_key, CASE WHEN data ->> 'title' = 'late' THEN (SELECT data FROM pg_sleep(60)) ELSE data END AS data, created_at, is_read FROM notification_gateway.was")
	c.sql("GRANT SELECT ON notification_gateway.feed TO PUBLIC")
	c.sql("INSERT INTO notifications (user_id, notification_type, title, message) VALUES (5, 'x', 'one', ''), (5, 'x', 'late', ''), (5, 'x', 'two', '')")
	if got := c.titles(c.collect(3)); !reflect.DeepEqual(got, []string{"one", "error", "two"}) {
		t.Errorf("got %v", got)
	}
}

// The view's data is the dear part of a row. It stood twice in every statement,
// and Postgres computed it twice.
func TestDataIsComputedOnce(t *testing.T) {
	t.Parallel()
	l := setupLoader(t)
	l.sql("CREATE SEQUENCE computed; GRANT ALL ON computed TO PUBLIC")
	l.sql(`CREATE FUNCTION counted(data json) RETURNS json LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM nextval('public.computed'); RETURN data; END $$`)
	l.sql(`ALTER VIEW notification_gateway.feed RENAME TO was;
		CREATE VIEW notification_gateway.feed AS SELECT id, user_key, counted(data::json) AS data, created_at, is_read FROM notification_gateway.was`)
	computed := func() (n int) {
		if err := l.conn.QueryRow(t.Context(), "SELECT last_value FROM computed").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	l.warm()
	oldest := []store.Entry{{UserKey: "5"}}
	if err := l.conn.QueryRow(t.Context(), "SELECT min(id)::text FROM notifications").Scan(&oldest[0].ItemID); err != nil {
		t.Fatal(err)
	}
	before := computed()
	if got := l.brings("with its poll"); got.prefetched != 1 || computed() != before+1 {
		t.Errorf("%d rows came with the poll, computed %d times", got.prefetched, computed()-before)
	}
	before = computed()
	if rows, err := l.store.Load(t.Context(), oldest); err != nil || len(rows[0].Data) == 0 || computed() != before+1 {
		t.Errorf("a row was loaded and computed %d times, %v", computed()-before, err)
	}
	before = computed()
	if list, err := l.store.Unread(t.Context(), "5", 3); err != nil || len(list.Entries) == 0 || computed() != before {
		t.Errorf("%d unread were listed and computed %d times, %v", len(list.Entries), computed()-before, err)
	}
}

// What a database or a role has as time limits for its applications failed the
// whole batch for a slow row, again and again, and ended the feed while it
// waited to be rung.
func TestTimeLimitsOfTheDatabase(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.CRM(t))
	c.sql(`DO $$ BEGIN
		EXECUTE format('ALTER DATABASE %%I SET statement_timeout = 100', current_database());
		EXECUTE format('ALTER DATABASE %%I SET lock_timeout = 100', current_database());
		EXECUTE format('ALTER DATABASE %%I SET idle_session_timeout = 100', current_database());
	END $$`)
	c.sql(`CREATE FUNCTION slow() RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$;
		ALTER VIEW notification_gateway.feed RENAME TO was;
		CREATE VIEW notification_gateway.feed AS SELECT id, user_key, CASE data ->> 'title' WHEN 'slow' THEN coalesce(slow(), data) ELSE data END AS data,
			created_at, is_read FROM notification_gateway.was`)
	c.open(store.Config{})
	connects := c.metric("feed_reconnects_total", "")
	c.sql("SELECT pg_sleep(0.5); %s", insert(5, "slow")+insert(5, "quick"))
	if got := c.titles(c.collect(2)); !reflect.DeepEqual(got, []string{"slow", "quick"}) {
		t.Errorf("got %v", got)
	}
	if now := c.metric("feed_reconnects_total", ""); now != connects {
		t.Errorf("the feed connected %v times more", now-connects)
	}
}

// Behind a pooler the session's limits stay. A row that they end is late, and
// the others are brought.
func TestRowThatATimeLimitEnds(t *testing.T) {
	t.Parallel()
	c := setup(t)
	for code, says := range map[string]string{"57014": "statement timeout", "55P03": "lock timeout"} {
		c.sql("CREATE OR REPLACE FUNCTION late() RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE '%s' USING ERRCODE = '%s'; END $$", says, code)
		c.sql(`DROP VIEW notification_gateway.feed; CREATE VIEW notification_gateway.feed AS SELECT id, user_id AS user_key,
			CASE title WHEN 'late' THEN late() ELSE json_build_object('title', title) END AS data, created_at, is_read FROM notifications`)
		c.sql("%s", insert(5, "a")+insert(5, "late")+insert(5, "b"))
		rows, err := c.store.Load(t.Context(), c.collect(3))
		if err != nil || title(rows[0]) != "a" || !errors.Is(rows[1].Err, store.ErrRowTimeout) || title(rows[2]) != "b" {
			t.Errorf("%s: got %v, %v", says, rows, err)
		}
	}
}

// A message to many is one ID that many users hold. It was read for all of them
// to bring it to one: with 2,000 users 200 unread rows did not come in a minute.
func TestRowsThatManyUsersShareAreReadForOne(t *testing.T) {
	t.Parallel()
	l := setupLoader(t)
	l.sql("CREATE SEQUENCE computed; GRANT ALL ON computed TO PUBLIC")
	l.sql(`CREATE FUNCTION counted(data json) RETURNS json LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM nextval('public.computed'); RETURN data; END $$`)
	l.sql(`CREATE TABLE message (id bigint PRIMARY KEY, body text); CREATE TABLE message_user (message_id bigint, user_id bigint, PRIMARY KEY (message_id, user_id));
		INSERT INTO message SELECT g, g FROM generate_series(1, 40) g; INSERT INTO message_user SELECT m, u FROM generate_series(1, 40) m, generate_series(1, 500) u;
		ANALYZE message, message_user;
		DROP VIEW notification_gateway.feed; CREATE VIEW notification_gateway.feed AS
		SELECT r.message_id AS id, r.user_id AS user_key, counted(json_build_object('title', m.body || ' for ' || r.user_id)) AS data, now() AS created_at, false AS is_read
		FROM message_user r JOIN message m ON m.id = r.message_id`)
	computed := func() (n int) {
		if err := l.conn.QueryRow(t.Context(), "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM computed").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	got, _ := l.unread("5", 100)
	if n := computed(); len(got) != 40 || n != 40 {
		t.Errorf("%d unread rows came, and %d were read", len(got), n)
	}
	entries := []store.Entry{{ItemID: "7", UserKey: "5"}, {ItemID: "8", UserKey: "6"}, {ItemID: "8", UserKey: "5"}, {ItemID: "7", UserKey: "no number"}, {ItemID: "8", UserKey: "501"}}
	for _, users := range []bool{false, true} {
		l.store.ByUsers(users)
		before := computed()
		if got, want := l.titles(entries), []string{"7 for 5", "8 for 6", "8 for 5", "gone", "gone"}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if n := computed() - before; n != 3 {
			t.Errorf("%d rows were read for three", n)
		}
	}
	prefetched := 0
	for i := range 10 {
		l.sql("INSERT INTO notification_gateway.log (user_key, item_id) VALUES ('5', '%d'); NOTIFY notification_gateway", i+1)
		before := computed()
		prefetched += l.delivered(fmt.Sprint(i+1, " for 5")).prefetched
		if n := computed() - before; n > 1 {
			t.Errorf("%d rows were read for the one of a poll", n)
		}
	}
	if prefetched == 0 {
		t.Error("no row came with its poll")
	}
}

// Postgres has times that RFC 3339 and browsers have not. One such row is not to be
// lost for it, by no way on which rows come.
func TestTimesOutsideOfRFC3339AreNull(t *testing.T) {
	t.Parallel()
	l := setupLoader(t)
	from := l.brings("before").at
	l.sql("INSERT INTO tasks (id, title) VALUES (1, 't')")
	to := from
	for i, at := range []string{"infinity", "-infinity", "10000-01-01 00:00:00+00", "0001-12-31 23:59:59+00 BC", "9999-12-31 23:59:59.5+00", "0001-01-01 00:00:00+00"} {
		want := map[int]string{4: `"9999-12-31T23:59:59.5Z"`, 5: `"0001-01-01T00:00:00Z"`}[i]
		if want == "" {
			want = "null"
		}
		l.sql("INSERT INTO task_reminders (id, task_id, remind_at) VALUES (%d, 1, '%s')", i, at)
		l.sql(`INSERT INTO notifications (user_id, notification_type, title, message, reminder_id, created_at, updated_at, read_at)
			VALUES (5, 'task_reminder', '%[1]d', '', %[1]d, '%[2]s', '%[2]s', '%[2]s')`, i, at)
		to = l.delivered(fmt.Sprint(i)).at
		page, err := l.store.Replay(t.Context(), store.Reader{Keys: []string{"5"}}, from, to, store.Place{}, 10, 4<<20)
		if err != nil || len(page.Notifications) != 1 {
			t.Fatalf("%s: %d rows are replayed, %v", at, len(page.Notifications), err)
		}
		data := string(page.Notifications[0].Data)
		for _, key := range []string{"remind_at", "read_at", "created_at", "updated_at"} {
			if !strings.Contains(data, `"`+key+`":`+want) {
				t.Errorf("%s: %s is not %s in %s", at, key, want, data)
			}
		}
		from = to
	}
	if got, _ := l.unread("5", 10); len(got) != 7 {
		t.Errorf("%v are unread, want all seven", got)
	}
}

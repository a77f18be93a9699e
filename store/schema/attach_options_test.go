package schema_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// attached makes the table note, without a mapping, and attaches to it.
func attached(t *testing.T, options schema.AttachOptions) *crm {
	t.Helper()
	c := setup(t)
	c.sql(`DROP TRIGGER notification_gateway_capture ON notifications; DROP VIEW notification_gateway.feed;
		CREATE TABLE note (id bigint PRIMARY KEY, tenant_id text, user_id text, status text DEFAULT 'draft', is_read boolean DEFAULT false, "new" text DEFAULT 'new.x', send_at timestamptz)`)
	options.Table = "note"
	if options.UserColumns == nil {
		options.UserColumns = []string{"user_id"}
	}
	options.IDColumn = "id"
	for range 2 { // twice is as good as once
		if _, err := schema.Attach(t.Context(), c.url, options); err != nil {
			t.Fatal(err)
		}
	}
	attached := c.triggers()
	c.sql("%s", attachScript(t, options, schema.ScriptOptions{}))
	if got := c.triggers(); got != attached {
		t.Errorf("the script makes the triggers\n%s\nand attach makes\n%s", got, attached)
	}
	return c
}

// triggers returns what Postgres knows of the triggers on the table note.
func (c *crm) triggers() string {
	c.Helper()
	var all string
	if err := c.conn.QueryRow(c.Context(), `SELECT string_agg(concat_ws(' ', CASE WHEN NOT conditional THEN oid END, tgenabled, pg_get_triggerdef(oid)), E'\n' ORDER BY tgname)
		FROM (SELECT *, bool_or(tgqual IS NOT NULL) OVER () AS conditional FROM pg_trigger WHERE tgrelid = 'note'::regclass AND NOT tgisinternal) t`).Scan(&all); err != nil {
		c.Fatal(err)
	}
	return all
}

// What each option captures, in one go with what it must leave alone.
func TestAttachOptions(t *testing.T) {
	t.Parallel()
	t.Run("updates and deletes", func(t *testing.T) {
		t.Parallel()
		c := attached(t, schema.AttachOptions{OnUpdate: []string{"is_read", "status"}, OnDelete: true})
		c.sql("INSERT INTO note (id, user_id) VALUES (1, '5'); UPDATE note SET is_read = true; UPDATE note SET send_at = now(); DELETE FROM note; TRUNCATE note")
		c.wrote("a row's life", "notification 5 1", "updated 5 1", "removed 5 1", "refresh * ")
		c.sql("ALTER TABLE note ALTER status TYPE varchar(20); ALTER TABLE note RENAME status TO state; ALTER TABLE note DROP COLUMN is_read; INSERT INTO note (id, user_id) VALUES (2, '5'); UPDATE note SET state = 'sent'")
		c.wrote("after the CRM's own migrations", "notification 5 2", "updated 5 2")
	})
	t.Run("only updates", func(t *testing.T) {
		t.Parallel()
		c := attached(t, schema.AttachOptions{OnUpdate: []string{"is_read"}})
		c.sql("INSERT INTO note (id, user_id) VALUES (1, '5'); UPDATE note SET is_read = true; UPDATE note SET user_id = '6'; DELETE FROM note")
		c.wrote("a row's life", "notification 5 1", "updated 5 1", "removed 5 1", "notification 6 1")
	})
	t.Run("a condition", func(t *testing.T) {
		t.Parallel()
		c := attached(t, schema.AttachOptions{When: `NEW.status = 'sent' AND new . "new" <> 'NEW.y%' /* NEW.a */ AND $$NEW.b$$ <> E'\'NEW.c' -- NEW.nothing`})
		c.sql("INSERT INTO note (id, user_id) VALUES (1, '5'), (2, '5'); INSERT INTO note (id, user_id, status) VALUES (3, '5', 'sent')")
		c.wrote("drafts and one that is sent", "notification 5 3")
		c.sql("UPDATE note SET status = 'sent' WHERE id < 3; UPDATE note SET is_read = true; UPDATE note SET status = NULL WHERE id = 1; UPDATE note SET status = 'sent' WHERE id = 1")
		c.wrote("each time that it begins to hold", "notification 5 1", "notification 5 2", "removed 5 1", "notification 5 1")
	})
	t.Run("a condition and updates", func(t *testing.T) {
		t.Parallel()
		c := attached(t, schema.AttachOptions{When: "new.status = 'sent'", OnUpdate: []string{"is_read"}, OnDelete: true})
		c.sql("INSERT INTO note (id, user_id) VALUES (1, '5'); UPDATE note SET is_read = true; UPDATE note SET status = 'sent'; UPDATE note SET is_read = false; DELETE FROM note; INSERT INTO note (id, user_id) VALUES (2, '5'); DELETE FROM note")
		c.wrote("what it does not hold for is not told", "notification 5 1", "updated 5 1", "removed 5 1")
	})
	t.Run("a due time", func(t *testing.T) {
		t.Parallel()
		c := attached(t, schema.AttachOptions{DueColumn: "send_at", When: "NEW.status = 'sent'"})
		c.sql("INSERT INTO note (id, user_id, status, send_at) VALUES (1, '5', 'sent', now() + interval '1 hour'), (2, '5', 'sent', NULL), (3, '5', 'draft', now() + interval '1 hour')")
		c.wrote("one waits", "notification 5 2")
		c.sql("UPDATE note SET send_at = now() WHERE id = 1; UPDATE note SET status = 'sent' WHERE id = 3; UPDATE note SET send_at = NULL WHERE id = 3")
		c.wrote("re-dated", "notification 5 1", "notification 5 3")
	})
	t.Run("prefix", func(t *testing.T) {
		t.Parallel()
		c := attached(t, schema.AttachOptions{Prefix: "m", PrefixUser: true, UserColumns: []string{"tenant_id", "user_id"}, OnUpdate: []string{"is_read"}})
		c.sql("INSERT INTO note (id, tenant_id, user_id) VALUES (1, 'a', '5'); UPDATE note SET is_read = true")
		c.wrote("prefixes", "notification m:a:5 m:1", "updated m:a:5 m:1")
	})
	t.Run("record", func(t *testing.T) {
		t.Parallel()
		c := attached(t, schema.AttachOptions{Record: true})
		c.sql("INSERT INTO note (id, user_id) VALUES (1, '5'); ALTER TABLE note ENABLE TRIGGER ALL; INSERT INTO note (id, user_id) VALUES (2, '5')")
		c.wrote("nothing of its own")
		if f := c.finding("trigger"); !f.OK || !strings.Contains(f.Detail, "note") {
			t.Errorf("check says %+v", f)
		}
	})
	t.Run("again with less", func(t *testing.T) {
		t.Parallel()
		c := attached(t, schema.AttachOptions{OnUpdate: []string{"is_read"}, OnDelete: true, When: "NEW.status = 'sent'"})
		if f := c.finding("trigger"); !f.OK || !strings.Contains(f.Detail, "--when names status") {
			t.Errorf("check says %+v", f)
		}
		if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id"}); err != nil {
			t.Fatal(err)
		}
		c.sql("INSERT INTO note (id, user_id) VALUES (1, '5'); UPDATE note SET is_read = true; DELETE FROM note")
		c.wrote("only the insert", "notification 5 1")
		if had, err := schema.Detach(t.Context(), c.url, "note"); err != nil || !had {
			t.Errorf("detach finds %t, %v", had, err)
		}
		c.sql("INSERT INTO note (id, user_id) VALUES (1, '5')")
		c.wrote("nothing after detach")
	})
}

// A condition may also name the row as a whole.
func TestAttachConditionOfTheWholeRow(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"(NEW).status = 'sent'", "to_jsonb(new)->>'status' = 'sent'", `"new" . status = 'sent' AND NEW IS NOT NULL`} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			c := setup(t)
			c.sql(`DROP TRIGGER notification_gateway_capture ON notifications; DROP VIEW notification_gateway.feed; CREATE TABLE note (id bigint, user_id text, status text)`)
			if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id", When: when}); err != nil {
				t.Fatal(err)
			}
			c.sql("INSERT INTO note VALUES (1, '5', 'draft'); UPDATE note SET status = 'sent'; UPDATE note SET status = 'draft'")
			c.wrote("a draft that is sent and taken back", "notification 5 1", "removed 5 1")
		})
	}
}

// An UPDATE that moves a row to another partition tells what it changed, and is no
// new notification, whatever else is captured.
func TestAttachOptionsKnowMoves(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options schema.AttachOptions
		want    []string
	}{
		"updates":             {schema.AttachOptions{OnUpdate: []string{"is_read"}}, []string{"updated 5 1"}},
		"updates and deletes": {schema.AttachOptions{OnUpdate: []string{"is_read"}, OnDelete: true}, []string{"updated 5 1"}},
		"deletes":             {schema.AttachOptions{OnDelete: true}, nil},
		"a prefix":            {schema.AttachOptions{Prefix: "m"}, nil},
		"a due time":          {schema.AttachOptions{DueColumn: "send_at"}, nil},
		"a condition":         {schema.AttachOptions{When: "NEW.id > 0", OnDelete: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := setup(t)
			c.sql(`DROP TRIGGER notification_gateway_capture ON notifications; DROP VIEW notification_gateway.feed;
				CREATE TABLE note (id bigint, user_id text, is_read boolean, send_at timestamptz) PARTITION BY LIST (is_read);
				CREATE TABLE unread PARTITION OF note FOR VALUES IN (false); CREATE TABLE seen PARTITION OF note FOR VALUES IN (true)`)
			test.options.Table, test.options.UserColumns, test.options.IDColumn = "note", []string{"user_id"}, "id"
			if _, err := schema.Attach(t.Context(), c.url, test.options); err != nil {
				t.Fatal(err)
			}
			c.sql("INSERT INTO note VALUES (1, '5', false)")
			c.written()
			c.sql("UPDATE note SET is_read = true")
			c.wrote("a move", test.want...)
			if name == "a due time" {
				c.sql("UPDATE note SET send_at = now() + interval '1 hour'")
				c.wrote("dated ahead", "removed 5 1")
				c.sql("UPDATE note SET is_read = false")
				c.wrote("moved while it waits")
				c.sql("UPDATE note SET is_read = true, send_at = now()")
				c.wrote("due by a move", "notification 5 1")
			}
		})
	}
}

// Partitions, also those that are made later and written straight, have all the
// triggers.
func TestAttachOptionsReachPartitions(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql(`DROP TRIGGER notification_gateway_capture ON notifications; DROP VIEW notification_gateway.feed;
		CREATE TABLE note (id bigint, user_id text, is_read boolean) PARTITION BY LIST (user_id)`)
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id", OnUpdate: []string{"is_read"}, OnDelete: true}); err != nil {
		t.Fatal(err)
	}
	c.sql("CREATE TABLE note_5 PARTITION OF note FOR VALUES IN ('5'); CREATE TABLE note_6 PARTITION OF note FOR VALUES IN ('6')")
	c.sql("SET session_replication_role = replica; INSERT INTO note_5 VALUES (1, '5', false); UPDATE note_5 SET is_read = true")
	c.wrote("straight into a partition, as replication does", "notification 5 1", "updated 5 1")
	c.sql("UPDATE note SET user_id = '6'")
	c.wrote("to another partition and user", "removed 5 1", "notification 6 1")
	c.sql("DELETE FROM note_6")
	c.wrote("a delete", "removed 6 1")
}

// Whatever contradicts itself or the table is refused before anything is changed,
// with a line that names the option.
func TestAttachRefusesOptions(t *testing.T) {
	t.Parallel()
	c := attached(t, schema.AttachOptions{})
	for want, options := range map[string]schema.AttachOptions{
		"--record says that":                         {Record: true, OnDelete: true},
		"--prefix-user needs --prefix":               {PrefixUser: true},
		`--prefix "a:b"`:                             {Prefix: "a:b"},
		"--prefix group":                             {Prefix: "group", PrefixUser: true},
		"has no column nothing (--on-update)":        {OnUpdate: []string{"nothing"}},
		"has no column nothing (--due-column)":       {DueColumn: "nothing"},
		"--due-column takes timestamptz":             {DueColumn: "status"},
		"cannot use subquery in trigger WHEN":        {When: "EXISTS (SELECT FROM note)"},
		"cannot reference OLD values":                {When: "OLD.status = 'sent'"},
		`column new.nothing does not exist`:          {When: "NEW.nothing"},
		"is no condition over NEW":                   {When: "true) EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger(); DROP TABLE note; --"},
		"has no column nobody (--user-column)":       {UserColumns: []string{"tenant_id", "nobody"}},
		`--when "now() > x" is no condition`:         {When: "now() > x"},
		"argument of WHEN must be type boolean":      {When: "NEW.status"},
		"--user-column names no column":              {UserColumns: []string{}},
		`--when "NEW.id = ANY (SELECT 1)" is no con`: {When: "NEW.id = ANY (SELECT 1)"},
	} {
		options.Table, options.IDColumn = "note", "id"
		if options.UserColumns == nil {
			options.UserColumns = []string{"user_id"}
		}
		if _, err := schema.Attach(t.Context(), c.url, options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", options, err, want)
		}
	}
	c.sql("INSERT INTO note (id, user_id) VALUES (1, '5')")
	c.wrote("the triggers from before", "notification 5 1")
}

// A further table with a prefix has IDs that no other table has.
func TestAttachTakesAFurtherTableWithAPrefix(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("DROP VIEW notification_gateway.feed; CREATE TABLE note (id bigint, user_id bigint)")
	options := schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id"}
	if _, err := schema.Attach(t.Context(), c.url, options); err == nil || !strings.Contains(err.Error(), "--prefix") {
		t.Errorf("without a prefix: %v", err)
	}
	options.Prefix = "n"
	if warnings, err := schema.Attach(t.Context(), c.url, options); err != nil || len(warnings) > 0 {
		t.Errorf("with a prefix: %v, %v", warnings, err)
	}
	c.sql("INSERT INTO note VALUES (1, 5)")
	if got := c.written(); !slices.Equal(got, []string{"notification 5 n:1"}) {
		t.Errorf("it wrote %q", got)
	}
}

// A table that feeds through record() need not have a column for the recipient, nor
// one for the ID, and its IDs are what its own trigger makes of them: attach asked
// for user_id and id, and took the table for one whose IDs meet another's.
func TestRecordTakesAnyTable(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("CREATE TABLE marker (account text, seen bigint); CREATE TABLE note (id bigint, user_id bigint)")
	options := schema.AttachOptions{Table: "marker", UserColumns: []string{"user_id"}, IDColumn: "id", Record: true}
	if warnings, err := schema.Attach(t.Context(), c.url, options); err != nil || len(warnings) > 0 {
		t.Errorf("attach says %q, %v", warnings, err)
	}
	c.sql("DROP TRIGGER notification_gateway_record ON marker")
	c.sql("%s", attachScript(t, options, schema.ScriptOptions{}))
	if f := c.finding("trigger"); !f.OK || f.Mend != "" || !strings.Contains(f.Detail, "marker") {
		t.Errorf("check says %+v", f)
	}
	c.sql("DROP TRIGGER notification_gateway_capture ON notifications; DROP VIEW notification_gateway.feed")
	if warnings, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id"}); err != nil || len(warnings) > 0 {
		t.Errorf("the first table that is captured: %q, %v", warnings, err)
	}
}

// Rows that were there before the trigger was come when they are written once more,
// as the page says.
func TestDueRowsFromBeforeComeWhenWrittenAgain(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql(`DROP TRIGGER notification_gateway_capture ON notifications; DROP VIEW notification_gateway.feed;
		CREATE TABLE note (id bigint PRIMARY KEY, user_id text, send_at timestamptz); INSERT INTO note VALUES (1, '5', now() + interval '1 hour'), (2, '5', now() - interval '1 hour')`)
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id", DueColumn: "send_at"}); err != nil {
		t.Fatal(err)
	}
	c.sql("UPDATE note SET send_at = send_at WHERE send_at > now()")
	c.written()
	c.sql("UPDATE notification_gateway.due SET at = now(); SELECT notification_gateway.release_due(10)")
	c.wrote("released", "notification 5 1")
}

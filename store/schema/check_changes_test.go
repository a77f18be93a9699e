package schema_test

import (
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// noteAgain attaches to the table of notes with options.
func (c *crm) noteAgain(options schema.AttachOptions) {
	c.Helper()
	options.Table, options.UserColumns, options.IDColumn = "note", []string{"user_id"}, "id"
	if _, err := schema.Attach(c.Context(), c.url, options); err != nil {
		c.Fatal(err)
	}
}

const plainNote = "CREATE TABLE note (id bigint, user_id bigint, kind text, title text)"

// Clients that ask for counts kept one that was wrong for minutes, and nobody said
// that the table does not tell when a row is read; nor that rows wait for their
// time in vain.
func TestCheckSaysWhatIsTold(t *testing.T) {
	t.Parallel()
	c := notes(t, plainNote)
	c.expectFinding("changes", true, "of public.note only new rows are told", "--on-update")
	c.noteAgain(schema.AttachOptions{OnUpdate: []string{"title"}})
	c.expectFinding("changes", true, "updates are told of public.note; 0 rows wait", "")
	if f := c.finding("changes"); f.Mend != "" {
		t.Errorf("check says %+v", f)
	}
	c.sql("INSERT INTO notification_gateway.due VALUES ('1', '5', now() + interval '1 hour')")
	c.expectFinding("changes", true, "1 rows wait", "")
	c.sql("UPDATE notification_gateway.due SET at = now() - interval '1 hour'")
	c.expectFinding("changes", true, "one is 1h0m0s late", "start a gateway")
}

// Two rows with one ID for one user are one notification: the second was dropped by
// every client, and check was green. Rows of nobody, and one ID for several users,
// are no fault.
func TestCheckFindsRowsThatShareTheirID(t *testing.T) {
	t.Parallel()
	c := notes(t, plainNote)
	c.sql("INSERT INTO note VALUES (1, NULL), (1, NULL), (2, 5), (2, 7)")
	c.expectFinding("columns", true, "the newest", "")
	c.sql("INSERT INTO note VALUES (3, 5), (3, 5)")
	c.expectFinding("columns", false, `the feed has item 3 for "5" twice`, "--prefix")
}

// A removed event names the view's ID, and a client that knows the row by another
// one keeps it.
func TestCheckComparesTheTwoIDs(t *testing.T) {
	t.Parallel()
	c := notes(t, plainNote)
	c.sql(`CREATE OR REPLACE VIEW notification_gateway.feed AS SELECT id, user_id AS user_key, json_build_object('id', id + 1) AS data, now() AS created_at, false AS is_read FROM public.note`)
	c.sql("INSERT INTO note VALUES (1, 5)")
	c.expectFinding("sample", true, "its data.id is 2 and the view's id is 1", "the same ID")
	c.sql(`CREATE OR REPLACE VIEW notification_gateway.feed AS SELECT id, user_id AS user_key, json_build_object('id', id::text) AS data, now() AS created_at, false AS is_read FROM public.note`)
	if f := c.finding("sample"); f.Mend != "" {
		t.Errorf("of an ID as text check says %+v", f)
	}
}

// A CRM that writes another column from some day on leaves the old one null, and
// the clients without a title.
func TestCheckMissesKeysThatWereThere(t *testing.T) {
	t.Parallel()
	c := notes(t, plainNote)
	c.sql(`CREATE OR REPLACE VIEW notification_gateway.feed AS SELECT id, user_id AS user_key, json_build_object('notification_type', kind, 'title', title) AS data, now() AS created_at, false AS is_read FROM public.note`)
	c.sql("INSERT INTO note SELECT i, 5, 'call', 'x' FROM generate_series(1, 15) i; INSERT INTO note SELECT i, 5, 'mail' FROM generate_series(16, 30) i")
	if f := c.finding("sample"); !f.OK || f.Mend != "" {
		t.Errorf("of a type without the key check says %+v", f)
	}
	c.sql("INSERT INTO note SELECT i, 5, 'call' FROM generate_series(31, 40) i")
	c.expectFinding("sample", true, "not in those before: title", "another column")
}

// A function of the mapping that reads a table in a schema which its owner may not
// use: the advice was to grant SELECT, which it had.
func TestCheckNamesTheSchemaThatMayNotBeUsed(t *testing.T) {
	t.Parallel()
	c := notes(t, plainNote)
	c.sql(`CREATE SCHEMA "Crm"; CREATE TABLE "Crm".detail (id bigint); GRANT SELECT ON "Crm".detail TO notification_gateway_owner;
		CREATE FUNCTION notification_gateway.detail() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN (SELECT count(*) FROM "Crm".detail); END $$;
		ALTER FUNCTION notification_gateway.detail() OWNER TO notification_gateway_owner;
		CREATE OR REPLACE VIEW notification_gateway.feed AS SELECT id, user_id AS user_key, json_build_object('id', id, 'n', notification_gateway.detail()) AS data, now() AS created_at, false AS is_read FROM public.note;
		INSERT INTO note VALUES (1, 5)`)
	c.expectFinding("sample", false, "permission denied for schema Crm", `GRANT USAGE ON SCHEMA "Crm"`)
}

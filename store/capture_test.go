package store_test

import (
	"reflect"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// attached is a table of another CRM, with its feed.
func attached(t *testing.T, columns, user, id string) *crm {
	t.Helper()
	c := crmAt(t, storetest.Database(t))
	c.sql("CREATE TABLE note (%s)", columns)
	mapping := `CREATE OR REPLACE VIEW notification_gateway.feed AS SELECT ` + id + ` AS id, ` + user + ` AS user_key,
		json_build_object('title', title) AS data, now() AS created_at, false AS is_read FROM public.note;`
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: mapping}); err != nil {
		t.Fatal(err)
	}
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{user}, IDColumn: id}); err != nil {
		t.Fatal(err)
	}
	c.open(store.Config{})
	return c
}

// The whole row was read as JSON to find two columns of it: a json column with
// what jsonb cannot hold then made the CRM's INSERT fail.
func TestCaptureNeverFailsTheCRM(t *testing.T) {
	t.Parallel()
	c := attached(t, "item text, person text, title text, meta json", "person", "item")
	for _, meta := range []string{`{"a":"\u0000"}`, `{"a":"\ud800"}`, `1e200000`} {
		c.sql(`INSERT INTO note VALUES ('one', 'alice', 'strange', '%s')`, meta)
		if got := c.keys(1); !reflect.DeepEqual(got, [][2]string{{"alice", "one"}}) {
			t.Errorf("%s: captured %v", meta, got)
		}
	}
	usual := attached(t, "id text, user_id text, title text, meta json", "user_id", "id")
	usual.sql(`INSERT INTO note VALUES ('one', NULL, 'strange', '{"a":"\u0000"}')`)
	if got := usual.keys(1); !reflect.DeepEqual(got, [][2]string{{"", "one"}}) {
		t.Errorf("captured %v", got)
	}
}

// Blanks at the end are padding in char(n), which the view does not show, and
// part of a text; also when the CRM has renamed the columns in the meantime.
func TestCaptureKeepsBlanksThatCount(t *testing.T) {
	t.Parallel()
	text := attached(t, "item text, person text, title text", "person", "item")
	text.sql("INSERT INTO note VALUES ('k1', 'bob ', 'a'), ('k2 ', 'bob', 'b')")
	if got := text.keys(2); !reflect.DeepEqual(got, [][2]string{{"bob ", "k1"}, {"bob", "k2 "}}) {
		t.Errorf("captured %q", got)
	}
	for _, names := range [][2]string{{"person", "item"}, {"user_id", "id"}} {
		padded := attached(t, names[1]+" char(12), "+names[0]+" char(10), title text", names[0], names[1])
		padded.sql("INSERT INTO note VALUES ('k1', 'bob', 'a')")
		other := padded.connect()
		padded.on(other, "ALTER TABLE note RENAME %s TO uid", names[0])
		padded.on(other, "ALTER TABLE note RENAME %s TO nid", names[1])
		padded.sql("INSERT INTO note VALUES ('k2', 'bob', 'b')")
		if got := padded.keys(2); !reflect.DeepEqual(got, [][2]string{{"bob", "k1"}, {"bob", "k2"}}) {
			t.Errorf("%s: captured %q", names[0], got)
		}
	}
}

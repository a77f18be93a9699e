package schema_test

import (
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// noted is the mapping of the table public.note.
const noted = `GRANT SELECT ON public.note TO notification_gateway_owner; SET LOCAL ROLE notification_gateway_owner; DROP VIEW IF EXISTS notification_gateway.feed;
	CREATE VIEW notification_gateway.feed AS SELECT id, user_id AS user_key,
	json_build_object('id', id, 'notification_type', to_jsonb(n)->'kind', 'title', to_jsonb(n)->'title', 'old', to_jsonb(n)->'gone') AS data, now() AS created_at, false AS is_read FROM public.note n; RESET ROLE`

// notes is a CRM with a table note, attached and mapped.
func notes(t *testing.T, table string) *crm {
	t.Helper()
	c := crmAt(t, storetest.Database(t))
	c.sql("%s", table)
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: noted}); err != nil {
		t.Fatal(err)
	}
	if warnings, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id"}); err != nil || len(warnings) > 0 {
		t.Fatalf("attach says %q, %v", warnings, err)
	}
	return c
}

func (c *crm) captured() (keys string) {
	c.Helper()
	if err := c.conn.QueryRow(c.Context(), "SELECT coalesce(string_agg(item_id || ' for ' || user_key, ', ' ORDER BY xid, position), '') FROM notification_gateway.log").Scan(&keys); err != nil {
		c.Fatal(err)
	}
	return keys
}

func (c *crm) expectFinding(name string, ok bool, detail, mend string) {
	c.Helper()
	if f := c.finding(name); f.OK != ok || !strings.Contains(f.Detail, detail) || !strings.Contains(f.Mend, mend) {
		c.Errorf("check says %+v, want %t %q %q", f, ok, detail, mend)
	}
}

// With row-level security on the CRM's table the feed showed no row, and check
// was green: nothing was delivered, and nobody said why.
func TestRowLevelSecurityIsSaid(t *testing.T) {
	t.Parallel()
	c := notes(t, "CREATE TABLE note (id bigint, user_id bigint, title text)")
	c.sql("ALTER TABLE note ENABLE ROW LEVEL SECURITY; CREATE POLICY tenant ON note USING (user_id::text = current_setting('app.user', true))")
	c.sql("INSERT INTO note VALUES (1, 5, 'hidden')")
	const line = "CREATE POLICY notification_gateway ON public.note FOR SELECT TO notification_gateway_owner USING (true);"
	c.expectFinding("security", false, "hides the rows of public.note", line)
	c.expectFinding("sample", false, "the feed shows no row at all, and the log has 1", "row-level security")
	done, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: noted})
	if err != nil || !strings.Contains(strings.Join(done, "\n"), line) {
		t.Errorf("migrate says %q, %v", done, err)
	}
	done, err = schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id"})
	if err != nil || !strings.Contains(strings.Join(done, "\n"), line) {
		t.Errorf("attach says %q, %v", done, err)
	}
	c.sql("%s", line)
	c.expectFinding("security", true, "no row-level security", "")
	c.expectFinding("sample", true, "newest 1 captured rows load", "")
}

// Two tables that count their IDs from 1 have the same ones: one of two
// notifications was lost, the other sent twice.
func TestFurtherTableNeedsOtherIDs(t *testing.T) {
	t.Parallel()
	c := notes(t, "CREATE TABLE note (id bigint, user_id bigint, title text); CREATE TABLE mail (id bigint, user_id bigint); CREATE TABLE letter (id text, user_id bigint)")
	_, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "mail", UserColumns: []string{"user_id"}, IDColumn: "id"})
	if err == nil || !strings.Contains(err.Error(), "public.note is attached already") || !strings.Contains(err.Error(), "prefix") {
		t.Errorf("a second table with integer IDs: %v", err)
	}
	c.sql("DROP VIEW notification_gateway.feed")
	said, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "letter", UserColumns: []string{"user_id"}, IDColumn: "id"})
	if err != nil || len(said) != 1 || !strings.Contains(said[0], "public.note is attached too") {
		t.Errorf("a second table with texts: %q, %v", said, err)
	}
	said, err = schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id"})
	if err != nil || len(said) != 1 {
		t.Errorf("the first table again: %q, %v", said, err)
	}
	c.expectFinding("trigger", true, "on public.letter, public.note: an ID that two of them have", "prefix")
}

// A trigger is not inherited: of 11 rows in such tables one was captured, and all
// was green.
func TestTablesThatInheritAreCaptured(t *testing.T) {
	t.Parallel()
	c := notes(t, `CREATE TABLE note (id bigint, user_id bigint, title text); CREATE TABLE other (colour text, id bigint);
		CREATE TABLE child (shade text) INHERITS (other, note); CREATE TABLE grandchild () INHERITS (child)`)
	c.sql("INSERT INTO note VALUES (1, 5); INSERT INTO child (id, user_id) VALUES (2, 5); INSERT INTO grandchild (id, user_id) VALUES (3, 7)")
	c.sql("ALTER TABLE note RENAME user_id TO person; INSERT INTO child (id, person) VALUES (4, 9)")
	if got := c.captured(); got != "1 for 5, 2 for 5, 3 for 7, 4 for 9" {
		t.Errorf("captured %s", got)
	}
	c.sql("ALTER TABLE note RENAME person TO user_id; CREATE TABLE late () INHERITS (note)")
	c.expectFinding("trigger", false, "rows of public.late are not captured", "run gateway attach public.note again")
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id"}); err != nil {
		t.Fatal(err)
	}
	c.expectFinding("trigger", true, "public.late", "")
	if had, err := schema.Detach(t.Context(), c.url, "note"); err != nil || !had {
		t.Errorf("detach: %t, %v", had, err)
	}
	c.expectFinding("trigger", false, "no table has", "")
}

// Ann and ann are one citext and two of our keys: what is for one did not reach
// the other. A domain is what it is made of.
func TestKeysOfOtherTypes(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.Database(t))
	c.sql("CREATE SCHEMA types; CREATE EXTENSION citext SCHEMA types; CREATE DOMAIN person AS uuid; CREATE TABLE note (id bigint, user_id types.citext, owner person, title text); CREATE TABLE people (login types.citext, id bigint)")
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: "GRANT USAGE ON SCHEMA types TO notification_gateway_owner; " + noted}); err == nil || !strings.Contains(err.Error(), "user_key of the view feed is citext") || !strings.Contains(err.Error(), "lower(user_key::text)") {
		t.Errorf("a mapping with citext: %v", err)
	}
	mapping := "GRANT USAGE ON SCHEMA types TO notification_gateway_owner; GRANT SELECT ON public.people TO notification_gateway_owner; " + strings.Replace(noted, "user_id AS", "owner AS", 1)
	identity := "; SET LOCAL ROLE notification_gateway_owner; DROP VIEW IF EXISTS notification_gateway.identity; CREATE VIEW notification_gateway.identity AS SELECT p.id AS subject, n.owner AS user_key FROM public.people p JOIN public.note n ON n.user_id = p.login; RESET ROLE"
	done, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: mapping + identity})
	if err != nil || !strings.Contains(strings.Join(done, "\n"), "compares the citext column") {
		t.Errorf("a mapping that compares citext with case: %q, %v", done, err)
	}
	c.expectFinding("identity", true, "compares the citext column", "OPERATOR(types.=)")
	if done, err = schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: mapping + strings.Replace(identity, "= p.login", "OPERATOR(types.=) p.login", 1)}); err != nil || strings.Contains(strings.Join(done, "\n"), "citext") {
		t.Errorf("a mapping that compares citext without case: %q, %v", done, err)
	}
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id"}); err == nil || !strings.Contains(err.Error(), "is citext") {
		t.Errorf("attach to citext: %v", err)
	}
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"owner"}, IDColumn: "id"}); err != nil {
		t.Errorf("attach to a domain: %v", err)
	}
}

// A migration tool runs its files again: attach must not take the table's lock
// for nothing, and what check knows of the trigger's age must not begin anew.
func TestAttachTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	c := notes(t, "CREATE TABLE note (id bigint, user_id bigint, title text)")
	trigger := func() (id uint32) {
		if err := c.conn.QueryRow(t.Context(), "SELECT oid FROM pg_trigger WHERE tgrelid = 'note'::regclass").Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := trigger()
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id"}); err != nil || trigger() != first {
		t.Errorf("attached again: trigger %d became %d, %v", first, trigger(), err)
	}
	c.sql("ALTER TABLE note DISABLE TRIGGER ALL")
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id"}); err != nil {
		t.Fatal(err)
	}
	c.expectFinding("trigger", true, "on public.note", "")
}

// A column that is generated when it is read is null to a trigger: every row was
// captured for nobody, and all was green. Only Postgres 18 and later have it.
func TestVirtualColumnsAreRefused(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.Database(t))
	kind, refused := "STORED", ""
	var version int
	if err := c.conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::integer").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version >= 180000 {
		kind, refused = "VIRTUAL", "make it STORED"
	}
	c.sql("CREATE TABLE note (id bigint, person bigint, title text, user_id bigint GENERATED ALWAYS AS (person) %s)", kind)
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: noted}); err != nil {
		t.Fatal(err)
	}
	_, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id"})
	if refused == "" && err != nil || refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
		t.Errorf("attach to a %s column says %v", kind, err)
	}
	c.sql("DROP TRIGGER IF EXISTS notification_gateway_capture ON note; CREATE TRIGGER notification_gateway_capture AFTER INSERT ON note FOR EACH ROW EXECUTE FUNCTION notification_gateway.capture('user_id', 'id', '4', '1'); ALTER TABLE note ENABLE ALWAYS TRIGGER notification_gateway_capture")
	c.expectFinding("columns", refused == "", "", "")
}

// A row that an UPDATE moves to another partition is inserted there: it was
// announced once more. A row that is deleted and inserted again is a new one,
// also in one transaction.
func TestRowThatMovesBetweenPartitionsIsNotNew(t *testing.T) {
	t.Parallel()
	for _, columns := range [][2]string{{"user_id", "id"}, {"person", "number"}} {
		c := crmAt(t, storetest.Database(t))
		c.sql(`CREATE TABLE note (%[2]s bigint, %[1]s bigint, state text) PARTITION BY LIST (state);
			CREATE TABLE fresh PARTITION OF note FOR VALUES IN ('fresh'); CREATE TABLE old PARTITION OF note FOR VALUES IN ('old')`, columns[0], columns[1])
		if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: columns[:1], IDColumn: columns[1]}); err != nil {
			t.Fatal(err)
		}
		c.sql("INSERT INTO note VALUES (1, 5, 'fresh'), (2, 5, 'fresh'), (3, 7, 'old')")
		c.sql("UPDATE note SET state = 'old'")
		c.sql("BEGIN; UPDATE fresh SET state = state; UPDATE note SET state = 'fresh'; COMMIT")
		if got := c.captured(); got != "1 for 5, 2 for 5, 3 for 7" {
			t.Errorf("captured %s", got)
		}
		c.sql("BEGIN; DELETE FROM note WHERE %[1]s = 1; INSERT INTO note VALUES (1, 9, 'fresh'); DELETE FROM old WHERE %[1]s = 2; INSERT INTO fresh VALUES (2, 9, 'fresh'); COMMIT", columns[1])
		if got := c.captured(); got != "1 for 5, 2 for 5, 3 for 7, 1 for 9, 2 for 9" {
			t.Errorf("captured %s", got)
		}
		if f := c.finding("trigger"); !f.OK {
			t.Errorf("check says %+v", f)
		}
	}
}

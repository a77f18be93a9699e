package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

func scripts(t *testing.T, how schema.ScriptOptions) (migrate, attach string) {
	t.Helper()
	migrate, err := schema.MigrationScript(schema.MigrateOptions{Mapping: sql.MappingReferenceCRM, GrantTo: "notification_gateway_owner"}, how)
	if err != nil {
		t.Fatal(err)
	}
	return migrate, attachScript(t, schema.AttachOptions{Table: "notifications"}, how)
}

// A migration tool has its own transaction, role and search_path. With ours left
// standing, Django made its next table in pg_catalog. Its role has no CREATEROLE,
// and runs the script again in each test database.
func TestScriptInAnotherToolsTransaction(t *testing.T) {
	t.Parallel()
	storetest.CRM(t) // the owner's role is the cluster's, and this server may have none yet
	c := crmAt(t, storetest.Database(t))
	tool := c.as("django")
	c.sql(`GRANT notification_gateway_owner TO gateway_test_django; CREATE SCHEMA crm AUTHORIZATION gateway_test_django;
		DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %%I TO gateway_test_django', current_database()); END $$`)
	conn, err := pgx.Connect(t.Context(), tool)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	c.on(conn, "SET search_path = crm, public; CREATE TABLE crm.note (id bigint, user_id bigint)")
	migrate, err := schema.MigrationScript(schema.MigrateOptions{}, schema.ScriptOptions{NoTransaction: true})
	if err != nil {
		t.Fatal(err)
	}
	attach := attachScript(t, schema.AttachOptions{Table: "note"}, schema.ScriptOptions{NoTransaction: true})
	state := func() (s string) {
		if err := conn.QueryRow(t.Context(), `SELECT format('%s %s %s; ', current_user, current_setting('search_path'), current_setting('lock_timeout')) || coalesce((SELECT string_agg(format('%s %s %s', t.oid, t.tgenabled, encode(t.tgargs, 'escape')), ',')
			FROM pg_trigger t WHERE t.tgname = 'notification_gateway_capture'), '')`).Scan(&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	c.on(conn, "SET lock_timeout = '7s'; BEGIN")
	c.on(conn, "%s", migrate) // also the simple protocol, in several statements
	c.on(conn, "%s", attach)
	if s := state(); !strings.HasPrefix(s, "gateway_test_django crm, public 7s; ") || !strings.Contains(s, `A user_id\000id\000`) {
		t.Errorf("inside of the transaction: %s", s)
	}
	c.on(conn, "CREATE TABLE made_after (id bigint); COMMIT; INSERT INTO crm.note VALUES (1, 5)")
	first := state()
	c.on(conn, "BEGIN; %s %s COMMIT", migrate, attach)
	if again := state(); again != first || !strings.HasPrefix(again, "gateway_test_django crm, public 7s; ") {
		t.Errorf("again: %s, before: %s", again, first)
	}
	if got := c.captured(); got != "1 for 5" {
		t.Errorf("captured %q", got)
	}
	var where string
	if err := c.conn.QueryRow(t.Context(), "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 'made_after'").Scan(&where); err != nil || where != "crm" {
		t.Errorf("the tool's next table is in %s, %v", where, err)
	}
}

// Outside of a transaction a half of the script could stay. psql sends each
// statement alone, and goes on after an error.
func TestScriptFailsOutsideOfATransaction(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.Database(t))
	c.sql("%s", sql.ReferenceCRM)
	migrate, attach := scripts(t, schema.ScriptOptions{NoTransaction: true})
	for _, script := range []string{migrate, attach} {
		remembers, does, found := strings.Cut(script, ";\nDO ")
		if !found {
			t.Fatal("the script is not two statements")
		}
		c.sql("%s", remembers)
		if _, err := c.conn.Exec(t.Context(), "DO "+does, pgx.QueryExecModeSimpleProtocol); err == nil || !strings.Contains(err.Error(), "run this script inside of a transaction") {
			t.Errorf("outside of a transaction: %v", err)
		}
	}
	var there bool
	if err := c.conn.QueryRow(t.Context(), "SELECT to_regnamespace('notification_gateway') IS NOT NULL").Scan(&there); err != nil || there {
		t.Errorf("objects are there: %t, %v", there, err)
	}
	migrate, attach = scripts(t, schema.ScriptOptions{})
	for range 2 {
		c.sql("%s", migrate)
		c.sql("%s", attach)
	}
	for _, f := range []string{"objects", "trigger", "feed", "sample", "columns", "identity"} {
		c.expectFinding(f, true, "", "")
	}
}

// A script that begins after a version is for databases that have it, and a
// script of an older gateway for none that a newer one has migrated.
func TestScriptKnowsWhereItBegins(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.Database(t))
	from := func(n int) string {
		script, err := schema.MigrationScript(schema.MigrateOptions{}, schema.ScriptOptions{From: n})
		if err != nil {
			t.Fatal(err)
		}
		return script
	}
	run := func(script string) error {
		defer c.sql("ROLLBACK")
		_, err := c.conn.PgConn().Exec(t.Context(), script).ReadAll()
		return err
	}
	if err := run(from(1)); err == nil || !strings.Contains(err.Error(), "the objects are at version 0, and this script begins after 1") {
		t.Errorf("without objects: %v", err)
	}
	if script := from(1); strings.Contains(script, "migration 1:") || !strings.Contains(script, "migration 2:") {
		t.Error("the script after version 1 does not begin with 2")
	}
	if err := run(from(0)); err != nil {
		t.Fatal(err)
	}
	if err := run(from(1)); err != nil {
		t.Errorf("with objects: %v", err)
	}
	c.sql("INSERT INTO notification_gateway.migration (version, name) VALUES (999, 'later')")
	if err := run(from(0)); err == nil || !strings.Contains(err.Error(), "use a newer gateway") {
		t.Errorf("with newer objects: %v", err)
	}
	if _, err := schema.MigrationScript(schema.MigrateOptions{}, schema.ScriptOptions{From: 999}); err == nil || !strings.Contains(err.Error(), "there is no version 999") {
		t.Errorf("after a version that is not there: %v", err)
	}
}

// What attach refuses, its script refuses too.
func TestAttachScriptRefuses(t *testing.T) {
	t.Parallel()
	c := notes(t, "CREATE TABLE note (id bigint, user_id bigint, title text); CREATE TABLE mail (id bigint, user_id bigint); CREATE TABLE child () INHERITS (note)")
	for table, says := range map[string]string{"nowhere": "there is no table nowhere", "mail": "needs a prefix", "note": ""} {
		_, err := c.conn.PgConn().Exec(t.Context(), attachScript(t, schema.AttachOptions{Table: table}, schema.ScriptOptions{})).ReadAll()
		c.sql("ROLLBACK")
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(fmt.Sprint(err), says)) {
			t.Errorf("attach to %s says %v, want %q", table, err, says)
		}
	}
	c.sql("DROP TRIGGER notification_gateway_capture ON child")
	c.sql("%s", attachScript(t, schema.AttachOptions{Table: "note"}, schema.ScriptOptions{}))
	c.expectFinding("trigger", true, "public.child", "")
}

// attachScript is AttachScript for the columns user_id and id where options name
// none.
func attachScript(t *testing.T, options schema.AttachOptions, how schema.ScriptOptions) string {
	t.Helper()
	if options.UserColumns == nil {
		options.UserColumns = []string{"user_id"}
	}
	options.IDColumn = "id"
	text, err := schema.AttachScript(options, how)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

package schema_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// Operators run migrate at every deployment: again it must change nothing.
func TestMigrateIsIdempotent(t *testing.T) {
	t.Parallel()
	c := setup(t)
	done, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{})
	if err != nil || len(done) != 0 {
		t.Errorf("again: %v, %v", done, err)
	}
	c.sql("UPDATE notification_gateway.migration SET version = 999 WHERE version = 1")
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{}); err == nil {
		t.Error("objects of a newer gateway were accepted")
	}
}

// What --print writes must be what migrate does.
func TestMigrationScriptRuns(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("DROP SCHEMA notification_gateway CASCADE")
	script, err := schema.MigrationScript(schema.MigrateOptions{}, schema.ScriptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.sql("%s", script)
	var version int
	if err := c.conn.QueryRow(t.Context(), "SELECT max(version) FROM notification_gateway.migration").Scan(&version); err != nil || version < 1 {
		t.Errorf("version %d, %v", version, err)
	}
}

// An installation that ran the released migrations, with the functions that
// they held, must end as one that is made today: same functions, owners and
// grants, none of them for everybody. What the adopter has granted stays.
func TestMigrateUpgradesToTheSameObjects(t *testing.T) {
	t.Parallel()
	const objects = `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
		SELECT format('%s %s %s %s %s', p.oid::regprocedure, p.prosrc, p.proconfig, p.proowner::regrole, p.proacl) AS line FROM pg_proc p WHERE p.pronamespace = 'notification_gateway'::regnamespace
		UNION ALL SELECT format('%s %s %s', c.relname, c.relkind, c.relowner::regrole) FROM pg_class c WHERE c.relnamespace = 'notification_gateway'::regnamespace
		UNION ALL SELECT format('%s %s %s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod)) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
			WHERE c.relnamespace = 'notification_gateway'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL SELECT format('migration %s %s', m.version, m.name) FROM notification_gateway.migration m) o`
	read := func(c *crm) (all string) {
		t.Helper()
		if err := c.conn.QueryRow(t.Context(), objects).Scan(&all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	fresh, old := crmAt(t, storetest.Database(t)), crmAt(t, storetest.Database(t))
	if _, err := schema.Migrate(t.Context(), fresh.url, schema.MigrateOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"objects", "bell"} {
		text, err := os.ReadFile(fmt.Sprintf("testdata/released/000%d_%s.sql", i+1, name))
		if err != nil {
			t.Fatal(err)
		}
		old.sql("BEGIN; %s; INSERT INTO notification_gateway.migration VALUES (%d, '%s'); COMMIT", text, i+1, name)
	}
	old.sql("CREATE OR REPLACE FUNCTION notification_gateway.mind() RETURNS boolean LANGUAGE sql AS 'SELECT false'")
	done, err := schema.Migrate(t.Context(), old.url, schema.MigrateOptions{})
	if err != nil || !slices.Contains(done, "function mind() replaced") {
		t.Errorf("did %q, %v", done, err)
	}
	if was, is := read(fresh), read(old); was != is {
		t.Errorf("an upgrade gives\n%s\na new installation has\n%s", is, was)
	}
	old.sql("GRANT EXECUTE ON FUNCTION notification_gateway.disconnect(text, text) TO PUBLIC")
	if done, err = schema.Migrate(t.Context(), old.url, schema.MigrateOptions{}); err != nil || len(done) > 0 {
		t.Errorf("again it did %q, %v", done, err)
	}
	var granted, open bool
	if err := old.conn.QueryRow(t.Context(), `SELECT bool_or(proname = 'disconnect'), bool_or(proname <> 'disconnect') FROM pg_proc, aclexplode(proacl) a
		WHERE pronamespace = 'notification_gateway'::regnamespace AND a.grantee = 0`).Scan(&granted, &open); err != nil || !granted || open {
		t.Errorf("disconnect is for everybody: %t, others are: %t, %v", granted, open, err)
	}
}

// Behind a pooler no session is the gateway's own, so the role has the path. The
// CRM's own role would find none of its tables under it.
func TestGrantPinsThePathOfTheRole(t *testing.T) {
	t.Parallel()
	c := setup(t)
	for name, pinned := range map[string]bool{"pinned": true, "crm_itself": false} {
		c.as(name)
		role := "gateway_test_" + name
		if !pinned {
			c.sql("GRANT INSERT ON notifications TO %s", role)
		}
		done, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{GrantTo: role})
		said := slices.Contains(done, "search_path of "+role+" pinned in this database")
		var path []string
		if err := c.conn.QueryRow(t.Context(), "SELECT coalesce(array_agg(c), '{}') FROM pg_db_role_setting s, unnest(s.setconfig) c WHERE s.setrole = $1::text::regrole", role).Scan(&path); err != nil {
			t.Fatal(err)
		}
		if err != nil || said != pinned || slices.Contains(path, "search_path=pg_catalog, pg_temp") != pinned {
			t.Errorf("%s: settings %q, migrate says %q, %v", role, path, done, err)
		}
	}
}

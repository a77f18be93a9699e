package schema_test

import (
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
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
	script, err := schema.MigrationScript(schema.MigrateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.sql("%s", script)
	var version int
	if err := c.conn.QueryRow(t.Context(), "SELECT max(version) FROM notification_gateway.migration").Scan(&version); err != nil || version < 1 {
		t.Errorf("version %d, %v", version, err)
	}
}

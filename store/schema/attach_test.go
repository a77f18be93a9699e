package schema_test

import (
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// Whoever attaches for the first time makes each of these mistakes, and what
// Postgres says of them alone does not help.
func TestAttachSaysWhatToDo(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.Database(t))
	c.sql(`CREATE SCHEMA "Crm"; CREATE TABLE "Crm"."Notification" ("Id" uuid, "UserId" uuid); CREATE TABLE "Crm".plain (id uuid, user_id uuid);
		CREATE TABLE held (id uuid, user_id uuid); CREATE VIEW seen AS SELECT * FROM held; CREATE SEQUENCE counter`)
	plain := c.as("attacher")
	expect := func(url, table, user, want string) {
		t.Helper()
		_, err := schema.Attach(t.Context(), url, schema.AttachOptions{Table: table, UserColumns: []string{user}, IDColumn: "id"})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("attach to %s says %v, want %q", table, err, want)
		}
	}
	expect(c.url, "held", "user_id", `schema "notification_gateway" does not exist (SQLSTATE 3F000): run gateway migrate first`)
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.sql("DROP FUNCTION notification_gateway.capture()")
	expect(c.url, "held", "user_id", "run gateway migrate first")
	c.sql("DROP SCHEMA notification_gateway CASCADE")
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(c.url, "Crm.Notification", "user_id", `there is no table Crm.Notification, but '"Crm"."Notification"': names with capitals need double quotes`)
	expect(c.url, "Notification", "user_id", `'"Crm"."Notification"'`)
	expect(c.url, `"Crm".Plain_`, "user_id", `there is no table "Crm".Plain_`)
	expect(c.url, "nowhere", "user_id", "there is no table nowhere")
	expect(c.url, "x; y", "user_id", "x; y")
	expect(c.url, "seen", "user_id", "public.seen is a view, not a table")
	expect(c.url, "counter", "user_id", "public.counter is not a table")
	expect(c.url, `"Crm"."Notification"`, "user_id", "has no column user_id (--user-column), but Id, UserId: names are given as they are, without quotes")
	expect(c.url, `"Crm"."Notification"`, "UserId", "has no column id (--id-column)")

	const owner = "run this as the table's owner"
	expect(plain, `"Crm"."Notification"`, "UserId", owner)
	expect(plain, "held", "user_id", owner)
	c.sql("ALTER TABLE held OWNER TO gateway_test_attacher")
	expect(plain, "held", "user_id", "a member of notification_gateway_owner")
	c.sql("GRANT notification_gateway_owner TO gateway_test_attacher")
	expect(plain, "held", "user_id", "")

	c.sql("CREATE TABLE parted (id uuid, user_id uuid) PARTITION BY HASH (id); CREATE TABLE part PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
	expect(c.url, "parted", "user_id", "")
	expect(c.url, "part", "user_id", "this is a partition, and the trigger is its table's")
	if had, err := schema.Detach(t.Context(), c.url, "parted"); err != nil || !had {
		t.Errorf("detach finds %t, %v", had, err)
	}
	if had, err := schema.Detach(t.Context(), c.url, "parted"); err != nil || had {
		t.Errorf("detach again finds %t, %v", had, err)
	}
	expect(c.url, "parted", "user_id", "")
	if _, err := schema.Detach(t.Context(), c.url, "part"); err == nil || !strings.Contains(err.Error(), "name that table") {
		t.Errorf("detach from a partition says %v", err)
	}

	holder := c.connect()
	c.on(holder, "BEGIN; LOCK TABLE held")
	expect(c.url, "held", "id", "a transaction holds the table; try again")
	c.on(holder, "ROLLBACK")
}

// What the role that migrates lacks is not what Postgres names.
func TestMigrateSaysWhatItsRoleNeeds(t *testing.T) {
	t.Parallel()
	storetest.CRM(t) // the owner's role is the cluster's, and this server may have none yet
	c := crmAt(t, storetest.Database(t))
	c.sql("CREATE TABLE theirs (id bigint)")
	plain := c.as("migrator")
	if _, err := schema.Migrate(t.Context(), plain, schema.MigrateOptions{}); err == nil || !strings.Contains(err.Error(), "it needs CREATE on the database") {
		t.Errorf("without rights: %v", err)
	}
	c.sql(`GRANT notification_gateway_owner TO gateway_test_migrator;
		DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %%I TO gateway_test_migrator', current_database()); END $$`)
	mapping := schema.MigrateOptions{Mapping: "GRANT SELECT ON public.theirs TO notification_gateway_owner"}
	if _, err := schema.Migrate(t.Context(), plain, mapping); err == nil || !strings.Contains(err.Error(), "allowed to grant SELECT on the CRM's tables") {
		t.Errorf("with a mapping of another's table: %v", err)
	}
	if _, err := schema.Migrate(t.Context(), plain, schema.MigrateOptions{}); err != nil {
		t.Errorf("with what it needs: %v", err)
	}
	c.sql("BEGIN; SELECT pg_advisory_xact_lock(1734440037, 101)")
	if _, err := schema.Migrate(t.Context(), plain, schema.MigrateOptions{}); err == nil || !strings.Contains(err.Error(), "try again when it has ended") {
		t.Errorf("beside another: %v", err)
	}
	c.sql("ROLLBACK")
}

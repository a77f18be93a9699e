package schema_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// check called a database good whose sessions may not write, which the feed
// refuses; and an administrator was told to migrate where a right was missing.
func TestCheckSaysWhatMends(t *testing.T) {
	t.Parallel()
	c := setup(t)
	plain := c.as("nobody")
	for _, name := range []string{"objects", "sample"} {
		if f := c.findingOf(schema.CheckOptions{URL: plain}, name); f.OK || !strings.Contains(f.Mend, "migrate --grant-to ROLE") {
			t.Errorf("without rights %s says %+v", name, f)
		}
	}
	c.sql("INSERT INTO notification_gateway.migration (version, name) VALUES (99, 'later')") // migrate would refuse
	if f := c.findingOf(schema.CheckOptions{URL: c.url}, "objects"); f.OK || !strings.Contains(f.Mend, "replace this gateway") {
		t.Errorf("of newer objects check says %+v", f)
	}
	c.sql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET default_transaction_read_only = on', current_database()); END $$")
	defer c.sql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I RESET default_transaction_read_only', current_database()); END $$") // or the role cannot be dropped
	if f := c.findingOf(schema.CheckOptions{URL: c.url}, "postgres"); f.OK || !strings.Contains(f.Detail, "default_transaction_read_only is on") {
		t.Errorf("read-only check says %+v", f)
	}
}

// What a role has for its applications must not hold for the doctor: dates of
// another style cannot be read by pgx.
func TestCheckUnderSettingsOfTheRole(t *testing.T) {
	t.Parallel()
	c := setup(t)
	odd := c.as("odd_doctor")
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{GrantTo: "gateway_test_odd_doctor"}); err != nil {
		t.Fatal(err)
	}
	c.sql("ALTER ROLE gateway_test_odd_doctor SET datestyle = 'German'; ALTER ROLE gateway_test_odd_doctor SET work_mem = '64kB'; ALTER ROLE gateway_test_odd_doctor SET temp_file_limit = 0")
	if f := c.findingOf(schema.CheckOptions{URL: odd}, "clock"); !f.OK {
		t.Errorf("check says %+v", f)
	}
}

// A reason that stands four times, on as many lines of a log, hides the one
// that matters, as does one that the next try has mended.
func TestConnectErrorsSayEachReasonOnce(t *testing.T) {
	t.Parallel()
	missing, err := url.Parse(storetest.Server(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	host := missing.Host
	missing.Path, missing.RawQuery = "/nowhere", "sslmode=prefer"
	for address, want := range map[string]string{
		"postgres://u@127.0.0.1:1,127.0.0.2:1/x": "connect: 127.0.0.1:1, 127.0.0.2:1: dial error: dial tcp: connect: connection refused",
		"postgres://u@no..where/x":               "connect: lookup no..where",
		"postgres://u@/x?host=/nowhere":          "connect: /nowhere/.s.PGSQL.5432: dial error: dial unix: connect: no such file or directory",
		missing.String():                         "connect: " + host + `: server error: FATAL: database "nowhere" does not exist (SQLSTATE 3D000)`,
	} {
		got := schema.Check(t.Context(), schema.CheckOptions{URL: address})[0].Detail
		if !strings.HasPrefix(got, want) || strings.Contains(got, "\n") || strings.Count(got, "lookup") > 1 {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// LISTEN in another database hears nothing, which check called a pooler.
func TestListenInAnotherDatabase(t *testing.T) {
	t.Parallel()
	c := setup(t)
	f := c.findingOf(schema.CheckOptions{URL: c.url, ListenURL: storetest.Database(t)}, "listen")
	if f.OK || !strings.Contains(f.Detail, "GATEWAY_LISTEN_DATABASE_URL is database") || !strings.Contains(f.Mend, "the same database") {
		t.Errorf("check says %+v", f)
	}
}

// By the number of the login a user got what was for the employee with the same
// number, and check called that good.
func TestCheckRefusesClaimBesideOthersInIdentity(t *testing.T) {
	t.Parallel()
	c := setup(t)
	claim := schema.CheckOptions{URL: c.url}
	c.sql("INSERT INTO employees (id, first_name, last_name, email) VALUES (5, 'Ann', 'A', 'ann@example.com') ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email")
	c.sql("INSERT INTO auth_user (id, username) VALUES (5, 'ann@example.com')")
	if f := c.findingOf(claim, "recipient"); !f.OK {
		t.Errorf("where the view gives each subject itself, check says %+v", f)
	}
	c.sql("UPDATE auth_user SET id = 50")
	if f := c.findingOf(claim, "recipient"); f.OK || !strings.Contains(f.Detail, "for 50 ") || !strings.Contains(f.Mend, "GATEWAY_RECIPIENT=auto") {
		t.Errorf("where the view gives another recipient, check says %+v", f)
	}
	c.sql("DROP VIEW notification_gateway.identity")
	if f := c.findingOf(claim, "recipient"); !f.OK {
		t.Errorf("without the view check says %+v", f)
	}
}

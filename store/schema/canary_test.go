package schema_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// A cursor may stand on the row of a canary. Once that was taken away, the cursor
// claimed a transaction that the log had no row of: a crash made its client get
// rows again, and another gateway took it for one that came from the future.
func TestCanaryTakenAwayIsStillKnown(t *testing.T) {
	t.Parallel()
	c := setup(t)
	for _, temporary := range []string{"TEMPORARY", ""} { // without the right record() captures
		if temporary == "" {
			c.sql("DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %%I FROM PUBLIC', current_database()); END $$")
		}
		canary, err := schema.NewCanary(t.Context(), c.url)
		if err != nil {
			t.Fatal(err)
		}
		defer canary.Close(t.Context())
		if err := canary.Capture(t.Context()); err != nil {
			t.Fatal(err)
		}
		var xid, key, highest string
		if err := c.conn.QueryRow(t.Context(), "SELECT xid::text, user_key FROM notification_gateway.log").Scan(&xid, &key); err != nil || key != "notification_gateway_canary:"+canary.ID {
			t.Fatalf("%s: the log has %q: %v", temporary, key, err)
		}
		if err := canary.TakeAway(t.Context()); err != nil {
			t.Fatal(err)
		}
		var kept bool
		var rows int
		if err := c.conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM notification_gateway.log), notification_gateway.kept($1::text::xid8, now()), (SELECT h.highest::text FROM notification_gateway.history() h)", xid).Scan(&rows, &kept, &highest); err != nil || rows != 0 || !kept || highest != xid {
			t.Errorf("%s: after it was taken away %d rows, kept %v, highest %s of %s: %v", temporary, rows, kept, highest, xid, err)
		}
	}
}

// The run-time role must not write what a user gets.
func TestCanaryIsNobodys(t *testing.T) {
	t.Parallel()
	c := setup(t)
	runtime := c.as("canaries")
	granted(t, c, "canaries")
	conn, err := pgx.Connect(t.Context(), runtime)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	c.sql("INSERT INTO notification_gateway.log (user_key, item_id) VALUES ('5', '1')")
	for _, call := range []string{"begin_canary('5', '1')", "begin_canary('" + strings.Repeat("0", 32) + "', '')", "begin_canary('x:" + strings.Repeat("0", 30) + "', '1')"} {
		if _, err := conn.Exec(t.Context(), "SELECT notification_gateway."+call); err == nil {
			t.Errorf("%s is carried out", call)
		}
	}
	for _, call := range []string{"end_canary('5')", "end_canary('%')", "end_canary('')"} {
		if _, err := conn.Exec(t.Context(), "SELECT notification_gateway."+call); err != nil {
			t.Errorf("%s: %v", call, err)
		}
	}
	var rows int
	if err := c.conn.QueryRow(t.Context(), "SELECT count(*) FROM notification_gateway.log").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("the log has %d rows of 1: %v", rows, err)
	}
}

package store_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// When the queue of notifications was full, every INSERT of the CRM failed: one
// session of another application that listens and stays in a transaction is
// enough. Before Postgres 17 the queue has 8 GB, and nobody fills it in a test.
func TestFullQueueOfNotificationsFailsNoInsert(t *testing.T) {
	t.Parallel()
	c, server := own(t)
	var version int
	if err := c.conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::integer").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version >= 170000 {
		c.sql("ALTER SYSTEM SET max_notify_queue_pages = 64")
		c.conn.Close(t.Context())
		if err := server.Crash(); err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.conn = c.connect()
		idle := c.connect()
		c.on(idle, "LISTEN other")
		c.on(idle, "BEGIN; SELECT 1")
		filler := c.connect()
		for full := false; !full; {
			_, err := filler.Exec(t.Context(), "SELECT pg_notify('other', repeat('a', 7900))", pgx.QueryExecModeSimpleProtocol)
			full = err != nil
		}
	}
	sleeper := c.connect()
	c.on(sleeper, "SELECT setval('notification_gateway.bell', 1), pg_advisory_lock(1734440037, 1)") // as a gateway that sleeps
	for range 20 {
		c.sql("%s", insert(5, "x"))
		c.sql("SELECT notification_gateway.disconnect('5', 'x')")
	}
	var logged int
	if err := c.conn.QueryRow(context.Background(), "SELECT count(*) FROM notification_gateway.log").Scan(&logged); err != nil || logged != 40 {
		t.Errorf("%d rows were captured, %v", logged, err)
	}
}

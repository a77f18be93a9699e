package store_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// A poll or a replay that reads the whole log is quick in every test, and not
// in a log of seven days: each must use its index, with and without statistics.
func TestPlansOfALargeLog(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("SET plan_cache_mode = force_generic_plan; SET jit = off")
	c.sql(`INSERT INTO notification_gateway.log (xid, inserted_at, user_key, item_id)
		SELECT (1000000 + i / 3)::text::xid8, now() - interval '1 hour', i %% 1000, i FROM generate_series(1, 200000) i`)
	const last = 1_066_666 // xid
	// Everybody's rows of the last hundred transactions and of two older ones.
	poll := fmt.Sprintf("'%d', '{%d,%d}', '0', 0, 10001, true", last-100, last-5000, last-9000)
	// One user's rows since the middle of the log and of two older transactions.
	replay := fmt.Sprintf("'{5}', '%d', '{%d,%d}', '0', 0, 1001, '%d', 100000", last-33_000, last-40_000, last-50_000, last-33_000)
	for _, when := range []string{"without statistics", "with them"} {
		for name, q := range map[string]struct{ sql, args, index string }{
			"poll": {store.PollSQL, poll, "log_pkey"}, "poll with its rows": {store.FullPollSQL(), poll, "log_pkey"}, "poll in a new life": {store.PollGuardSQL, poll + fmt.Sprintf(", '-infinity', '%d'", last-300), "log_pkey"},
			"replay": {store.ReplaySQL, replay, "log_user"}, "replay in a new life": {store.ReplayGuardSQL, replay + fmt.Sprintf(", '%d', '-infinity', '%d', 'infinity'", last-300, last), "log_user"},
		} {
			c.sql("PREPARE q AS %s", q.sql)
			rows, err := c.conn.Query(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, TIMING off) EXECUTE q("+q.args+")")
			if err != nil {
				t.Fatal(err)
			}
			var plan strings.Builder
			for rows.Next() {
				var line string
				if err := rows.Scan(&line); err != nil {
					t.Fatal(err)
				}
				plan.WriteString(line + "\n")
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			c.sql("DEALLOCATE q")
			removed := regexp.MustCompile(`Rows Removed by Filter: \d{4,}`).FindString(plan.String())
			t.Logf("%s, %s: %s", name, when, regexp.MustCompile(`Execution Time: .*`).FindString(plan.String()))
			if strings.Contains(plan.String(), "Seq Scan on log") || removed != "" || !strings.Contains(plan.String(), q.index) {
				t.Errorf("%s, %s:\n%s", name, when, plan.String())
			}
		}
		c.sql("ANALYZE notification_gateway.log")
	}
}

// A plan that is made while the table is empty is kept for as long as the
// connection. One that reads all rows of a user is quick then, and takes seconds
// for each page once the user has hundreds of thousands.
func TestRowsAreFoundByTheirIDFromTheBeginning(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("SET plan_cache_mode = force_generic_plan; SET jit = off")
	for name, q := range map[string]struct{ sql, args string }{
		"a page":               {store.RowsSQL(), "'{1}', '{1}', '{5}'"},
		"a poll with its rows": {store.FullPollSQL(), "'1', '{}', '0', 0, 101, true"},
	} {
		c.sql("PREPARE q AS %s", q.sql)
		rows, err := c.conn.Query(t.Context(), "EXPLAIN EXECUTE q("+q.args+")")
		if err != nil {
			t.Fatal(err)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if text := strings.Join(plan, "\n"); err != nil || !strings.Contains(text, "notifications_pkey") || strings.Contains(text, "notifications_user_id") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
		c.sql("DEALLOCATE q")
	}
}

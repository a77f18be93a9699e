package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// burst inserts from all connections at once and returns how many rows.
func (c *crm) burst(conns []*pgx.Conn, each int) int {
	c.Helper()
	var running sync.WaitGroup
	for _, conn := range conns {
		running.Go(func() {
			for range each {
				if _, err := conn.Exec(context.Background(), insert(5, "burst")); err != nil {
					c.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	return len(conns) * each
}

// A writer that looks for sleepers just before the feed lies down, and commits
// just after it has polled, would leave its row to the fallback poll. It runs
// alone: beside other tests the writers seldom get into each other's way, and
// the feed stays asleep for a minute.
func TestDoorbellMissesNothing(t *testing.T) {
	c := setup(t)
	conns := make([]*pgx.Conn, 8)
	for i := range conns {
		conns[i] = c.connect()
	}
	const cycles = 6
	woken := 0.0
	// A busy machine takes long to be crowded in just this way: then fewer will do.
	for began := time.Now(); woken < cycles && (woken == 0 || time.Since(began) < 15*time.Second); {
		before := c.metric("feed_wakes_total", "poll")
		for c.metric("feed_wakes_total", "poll") == before { // until it was crowded enough
			c.collect(c.burst(conns, 25))
		}
		woken++
		settled := c.metric("feed_wakes_total", "settle")
		for c.metric("feed_wakes_total", "settle") == settled { // single rows until it sleeps, and at just that moment
			c.sql("%s", insert(5, "single"))
			c.collect(1)
			time.Sleep(time.Duration(int(woken)%7) * 10 * time.Millisecond) // pauses of all lengths around the feed's own
		}
	}
	if n := c.metric("feed_unrung_rows_total", ""); n != 0 {
		t.Errorf("%v rows were left to the fallback poll", n)
	}
}

// Writers must be spared the NOTIFY while the feed is awake, and not while it
// sleeps.
func TestDoorbellRingsOnlySleepers(t *testing.T) {
	t.Parallel()
	c := setup(t)
	heard := c.listen()
	c.sql("%s", insert(5, "asleep"))
	c.collect(1)
	if !heard() {
		t.Error("nobody rang for a feed that sleeps")
	}
	c.keepAwake()
	for range 5 {
		c.sql("%s", insert(5, "awake"))
	}
	c.collect(5)
	if heard() {
		t.Error("somebody rang though nobody sleeps")
	}
	if n := c.metric("feed_unrung_rows_total", ""); n != 0 {
		t.Errorf("%v rows were left to the fallback poll", n)
	}
}

// listen returns a function that says whether somebody has rung.
func (c *crm) listen() (heard func() bool) {
	c.Helper()
	listener := c.connect()
	c.on(listener, "LISTEN notification_gateway")
	return func() bool {
		c.on(listener, "SELECT 1") // notifications come with the answer
		n, err := listener.WaitForNotification(expired(c.T))
		return err == nil && n != nil
	}
}

// keepAwake holds the slots as a crowd of writers does, so that the feed cannot
// sleep.
func (c *crm) keepAwake() {
	c.Helper()
	c.sql("SELECT pg_advisory_lock_shared(1734440037, slot) FROM generate_series(2, 8) slot")
	c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'notification_gateway' AND datname = current_database()")
	c.sql("SELECT pg_advisory_lock_shared(1734440037, 1)")
	for c.bell() != 0 && c.Context().Err() == nil { // until it has tried
	}
}

// bell returns what writers read.
func (c *crm) bell() (n int) {
	c.Helper()
	if err := c.conn.QueryRow(c.Context(), "SELECT last_value FROM notification_gateway.bell").Scan(&n); err != nil {
		c.Fatal(err)
	}
	return n
}

// A writer that was told that all are awake, and commits when the feed has lain
// down and polled, rings for nobody. Its row would be left to the fallback poll;
// and meanwhile those that came later must ring.
func TestDoorbellWaitsForWhoIsUnaware(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.keepAwake()
	late := c.connect()
	c.on(late, "BEGIN")
	c.on(late, "%s", insert(5, "unaware"))
	var locks int
	if err := late.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()").Scan(&locks); err != nil || locks != 0 {
		t.Errorf("a writer took %d locks (%v) though all are awake", locks, err)
	}
	settled := c.metric("feed_wakes_total", "settle")
	c.sql("SELECT pg_advisory_unlock_all()")
	for c.metric("feed_wakes_total", "settle") == settled { // until it sleeps
	}
	heard := c.listen()
	c.sql("%s", insert(5, "aware"))
	if got := c.titles(c.collect(1)); got[0] != "aware" || !heard() {
		t.Errorf("got %v, or nobody rang", got)
	}
	c.on(late, "COMMIT")
	if got := c.titles(c.collect(1)); got[0] != "unaware" {
		t.Errorf("got %v", got)
	}
	if n := c.metric("feed_unrung_rows_total", ""); n != 0 {
		t.Errorf("%v rows were left to the fallback poll", n)
	}
}

// expired is a context that lets a call take what has arrived and no more.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// There are eight slots; a ninth replica must not go deaf, and none may sleep
// in a slot that another has.
func TestNinthReplicaPolls(t *testing.T) {
	t.Parallel()
	c := setup(t)
	replicas := []*crm{c}
	for range 8 {
		replicas = append(replicas, c.replica())
	}
	var held int
	if err := c.conn.QueryRow(t.Context(), `SELECT count(DISTINCT objid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1734440037 AND objid <= 8
		AND granted AND mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&held); err != nil || held != 8 {
		t.Errorf("%d slots are taken (%v), want all 8", held, err)
	}
	for range 3 {
		c.sql("%s", insert(5, "to all"))
		for _, r := range replicas {
			r.collect(1)
		}
	}
	for i, r := range replicas {
		if n := r.metric("feed_unrung_rows_total", ""); n != 0 {
			t.Errorf("replica %d: %v rows were left to the fallback poll", i, n)
		}
	}
}

// Any role may take an advisory lock. Waiting for one would have been a way to
// stop every gateway.
func TestStrangerHoldsTheBell(t *testing.T) {
	t.Parallel()
	c := setup(t)
	stranger := c.connect()
	c.on(stranger, "SELECT pg_advisory_lock(1734440037, 102)")
	connects := c.metric("feed_reconnects_total", "")
	c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'notification_gateway' AND datname = current_database()")
	for c.metric("feed_reconnects_total", "") == connects || c.feed.Ready() != nil {
	}
	c.sql("%s", insert(5, "all the same"))
	if got := c.titles(c.collect(1)); got[0] != "all the same" {
		t.Errorf("got %v", got)
	}
	if n := c.metric("feed_unrung_rows_total", ""); n != 0 {
		t.Errorf("%v rows were left to the fallback poll", n)
	}
}

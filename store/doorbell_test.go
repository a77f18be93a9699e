package store_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

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

// A feed that slept was woken by a crowd, and stayed asleep until the batch that
// it had brought was delivered: for seconds every commit rang.
func TestDoorbellIsSilentBeforeALargeDelivery(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.CRM(t))
	c.make(store.Config{})
	held, release := make(chan struct{}), make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	watcher := c.connect()
	largest, bell := 0, 1
	c.run(func(b store.Batch) error {
		if len(b.Entries) == 1 {
			close(held)
			<-release
		}
		if len(b.Entries) <= largest {
			return nil
		}
		largest = len(b.Entries)
		return watcher.QueryRow(context.Background(), readBell).Scan(&bell)
	})
	t.Cleanup(let)
	c.next()
	c.sql("%s", insert(5, "first"))
	<-held
	if c.bell() != 1 {
		t.Error("the feed does not sleep at first")
	}
	const crowd = 2000
	c.sql("DO $$ BEGIN FOR i IN 1..%d LOOP %s COMMIT; END LOOP; END $$", crowd, insert(5, "crowd"))
	let()
	c.collect(1 + crowd)
	if largest < crowd || bell != 0 {
		t.Errorf("while %d rows were delivered the sequence said %d, want 0", largest, bell)
	}
}

// Another gateway that lay down beside a crowd and was killed left it to be said
// by nobody that all are awake: writers took the locks until the crowd had gone.
func TestDoorbellIsSilencedWhileACrowdWrites(t *testing.T) {
	t.Parallel()
	c := setup(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	writer := c.connect()
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				for len(c.got) > 0 {
					<-c.got
				}
				_, err := writer.Exec(context.Background(), "DO $$ BEGIN FOR i IN 1..100 LOOP "+insert(5, "crowd")+" COMMIT; END LOOP; END $$")
				if err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	quiet := func() bool {
		for began := time.Now(); c.bell() != 0; {
			if time.Since(began) > 30*time.Second {
				return false
			}
		}
		return true
	}
	if !quiet() {
		t.Fatal("the feed does not get up")
	}
	other := c.connectTo(c.url)
	c.on(other, "SELECT notification_gateway.sleep()")
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !quiet() {
		t.Error("writers look at the locks of a gateway that is gone")
	}
}

const readBell = "SELECT last_value FROM notification_gateway.bell" // as writers do

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

// While rows come the feed has writers look at the locks now and then, to see
// whether the crowd has gone. It did so until the batch of the next poll was
// delivered: a large one, which takes seconds, cost writers eight locks each as long.
func TestDoorbellIsNotLookedAtDuringADelivery(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.CRM(t))
	c.make(store.Config{})
	var awake atomic.Bool
	var deliveries, minded atomic.Int64
	watcher := c.connect()
	c.run(func(store.Batch) error {
		var n int64
		err := watcher.QueryRow(context.Background(), readBell).Scan(&n)
		if awake.Load() {
			deliveries.Add(1)
			minded.Add(n)
		}
		return err
	})
	c.next()
	c.keepAwake()
	awake.Store(true)
	for seen := 0; seen < 2; { // times that the feed had writers look
		c.sql("%s", insert(5, "row"))
		for len(c.got) == 0 { // no faster than it comes, or we are a crowd
			if c.bell() != 0 {
				for seen++; c.bell() != 0; {
				}
			}
		}
		<-c.got
	}
	if n, all := minded.Load(), deliveries.Load(); n > 0 || all == 0 {
		t.Errorf("writers looked at the locks during %d of %d deliveries", n, all)
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

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// These tests do not run beside others: a transaction in any database of the
// server holds the log.

// A row that is judged by when it was inserted goes as soon as its long
// transaction commits, and a client that was away at that moment never gets
// it; also the age of that transaction must be told.
func TestPruneKeepsWhatALongTransactionInserted(t *testing.T) {
	c := setup(t)
	long := c.connect()
	c.on(long, "BEGIN; %s", insert(5, "inserted long ago"))
	c.sql("%s", insert(5, "short"))
	away := c.collectBatch(1).Cursor
	c.prune(100, 100) // it is seen to run
	c.sql("SELECT pg_sleep(0.3)")
	removed, openFor := c.prune(100, 100)
	if removed != 0 || openFor < 200*time.Millisecond {
		t.Errorf("removed %d with a transaction open for %v", removed, openFor)
	}
	c.on(long, "COMMIT")
	now := c.collectBatch(1).Cursor
	if removed, _ := c.prune(100, 100); removed != 0 {
		t.Errorf("removed %d rows that had just been committed", removed)
	}
	page, err := c.store.Replay(t.Context(), store.Reader{Keys: []string{"5"}}, away, now, store.Place{}, 10, 4<<20)
	if err != nil || len(page.Notifications) != 1 || title(page.Notifications[0]) != "inserted long ago" {
		t.Fatalf("got %v, %v", page.Notifications, err)
	}
	c.sql("SELECT pg_sleep(0.2)")         // both had ended when the last prune looked
	for _, want := range []int{1, 1, 0} { // batch by batch
		if removed, openFor := c.prune(100, 1); removed != want || openFor != 0 {
			t.Errorf("removed %d with a transaction open for %v, want %d and none", removed, openFor, want)
		}
	}
	if n := c.logged(); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// Two replicas that prune at once must not wait for each other, and an insert
// must wait for neither.
func TestPruneStandsInNobodysWay(t *testing.T) {
	c := setup(t)
	c.sql("%s", insert(5, "old"))
	c.collect(1)
	c.prune(0, 0)
	first := c.connect()
	c.on(first, "BEGIN; SELECT notification_gateway.prune('0', 100)")
	if n := c.logged(); n != 1 { // the first has not committed
		t.Fatalf("%d rows", n)
	}
	c.sql("SET lock_timeout = '1s'; %s", insert(5, "new"))
	if removed, _ := c.prune(0, 100); removed != 0 {
		t.Errorf("the second removed %d", removed)
	}
	c.on(first, "COMMIT")
	if n := c.logged(); n != 1 {
		t.Errorf("%d rows are left, want the new one", n)
	}
}

// A replay that outlives the retention, or whose log a clock that was ahead
// emptied, brought what was left and moved on. It must say so, also after its first
// page, whatever clocks say. So must a feed that comes back.
func TestReplayTellsOfWhatWasPruned(t *testing.T) {
	c := setup(t)
	c.sql("%s", insert(5, "start"))
	start := c.collectBatch(1).Cursor
	for i := range 6 {
		c.sql("%s", insert(5, fmt.Sprint("row ", i)))
	}
	var end store.Cursor
	for n := 0; n < 6; {
		b := c.next()
		n, end = n+len(b.Entries), b.Cursor
	}
	replica := c.replica() // which asks the log
	page, err := replica.store.Replay(t.Context(), store.Reader{Keys: []string{"5"}}, start, end, store.Place{}, 2, 1<<20)
	if err != nil || !page.More {
		t.Fatalf("first page: %v, %v", page, err)
	}
	read := c.parse(page.After[1]) // two rows were read
	c.prune(0, 0)                  // notes what runs now
	c.sql("SELECT pg_sleep(0.01)")
	replayed := func(from store.Cursor, after store.Place) string {
		t.Helper()
		page, err := replica.store.Replay(t.Context(), store.Reader{Keys: []string{"5"}}, from, end, after, 10, 1<<20)
		var reset *store.ResetError
		if errors.As(err, &reset) {
			return reset.Reason
		}
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(len(page.Notifications))
	}
	for _, step := range []struct {
		pruned                       int
		fromStart, nextPage, resumed string
	}{
		{1, "6", "4", "4"}, // the row at which the replay starts
		{1, "expired", "4", "4"},
		{1, "expired", "expired", "4"}, // a page does not know whether its last transaction goes on
		{1, "expired", "expired", "expired"},
	} {
		if removed, _ := c.prune(0, step.pruned); removed != step.pruned {
			t.Fatalf("%d rows were removed, want %d", removed, step.pruned)
		}
		got := []string{replayed(start, store.Place{}), replayed(start, page.Next), replayed(read, store.Place{})}
		if want := []string{step.fromStart, step.nextPage, step.resumed}; !reflect.DeepEqual(got, want) {
			t.Errorf("after %d more were pruned, replays from the start, from the next page, and resumed bring %v, want %v", step.pruned, got, want)
		}
	}
	for removed := 1; removed > 0; {
		removed, _ = c.prune(0, 10)
	}
	c.sql("%s", insert(5, "new"))
	c.collect(1)
	late := c.replica() // which learns of the log when it is all but empty
	if _, err := late.store.Replay(t.Context(), store.Reader{Keys: []string{"5"}}, c.parse(end), end, store.Place{}, 10, 1<<20); err != nil {
		t.Errorf("a client that has everything is told %v", err)
	}
}

// A feed that is away while the log is emptied goes on behind a hole.
func TestFeedTellsOfWhatWasPruned(t *testing.T) {
	c := crmAt(t, storetest.CRM(t))
	c.make(store.Config{})
	held, release := make(chan struct{}), make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	first := true
	resets := make(chan string, 1)
	c.run(func(b store.Batch) error {
		if b.Reset != "" {
			resets <- b.Reset
		}
		if len(b.Entries) > 0 && first {
			first = false
			close(held)
			<-release
		}
		return nil
	})
	t.Cleanup(let)
	c.next()
	c.sql("%s", insert(5, "first"))
	<-held
	c.sql("%s", insert(5, "never seen"))
	c.prune(0, 0)
	c.sql("SELECT pg_sleep(1.1)") // a poll that is not long ago does not ask
	if removed, _ := c.prune(0, 10); removed != 2 {
		t.Fatalf("removed %d", removed)
	}
	let()
	c.collect(1)
	c.sql("%s", insert(5, "last"))
	c.collect(1)
	select {
	case reason := <-resets:
		if reason != store.ResetExpired {
			t.Errorf("the reset says %q", reason)
		}
	default:
		t.Error("nobody is told")
	}
}

// A clock that was ahead left notes of the future, and nothing was pruned until
// it had come.
func TestPruneForgetsTheFuture(t *testing.T) {
	c := setup(t)
	c.sql("%s", insert(5, "old"))
	c.collect(1)
	c.sql("INSERT INTO notification_gateway.horizon (at) VALUES (clock_timestamp() + interval '2 hours')")
	c.prune(100, 10)
	c.sql("SELECT pg_sleep(0.2)")
	if removed, _ := c.prune(100, 10); removed != 1 {
		t.Errorf("removed %d, want 1", removed)
	}
}

// Any role may take an advisory lock. One of them stopped pruning without a word.
func TestStrangerCannotStopPruning(t *testing.T) {
	c := setup(t)
	stranger := c.connect()
	c.on(stranger, "SELECT pg_advisory_lock(1734440037, 100)")
	c.sql("%s", insert(5, "old"))
	c.collect(1)
	c.prune(0, 0)
	c.sql("SELECT pg_sleep(0.01)")
	if removed, _ := c.prune(0, 10); removed != 1 {
		t.Errorf("removed %d, want 1", removed)
	}
}

// A transaction that somebody forgot holds the log, which then grows until the
// disk is full: the metric and the log must tell, and tell when it is over.
func TestPruneTellsOfALongTransaction(t *testing.T) {
	c := setup(t)
	var log bytes.Buffer // written by Prune, read when it has returned
	c.stats = prometheus.NewRegistry()
	s, err := store.Open(t.Context(), store.Config{
		URL: c.url, Retention: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil)), Metrics: store.NewMetrics(c.stats),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	// prune runs Prune until the metric is as wanted, once at the most.
	prune := func(told func(seconds float64) bool) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		done := make(chan struct{})
		go func() { defer close(done); s.Prune(ctx) }()
		eventually(t, "the metric tells how long the oldest transaction runs", func() bool { return told(c.metric("oldest_transaction_seconds", "")) })
		cancel()
		<-done
	}
	forgotten := c.connect()
	c.on(forgotten, "BEGIN; %s", insert(5, "forgotten"))
	c.prune(100, 0) // it is seen to run
	c.sql("SELECT pg_sleep(0.2)")
	prune(func(seconds float64) bool { return seconds > 0.1 })
	if !strings.Contains(log.String(), "a transaction is open for longer than the retention") {
		t.Errorf("the log says %q", &log)
	}
	c.on(forgotten, "ROLLBACK")
	prune(func(seconds float64) bool { return seconds == 0 })
}

// A log that grows without end because pruning cannot keep up was a warning among
// others: the doctor's page and a metric must tell, and tell when it is over.
func TestPruneTellsThatItFallsBehind(t *testing.T) {
	c := setup(t) // with a retention of an hour
	c.sql(`INSERT INTO notification_gateway.log (xid, inserted_at, user_key, item_id) SELECT (3 + i)::text::xid8, now() - interval '3 hours', '5', i FROM generate_series(1, 20) i`)
	prune := func(what string, done func() bool) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan struct{})
		go func() { defer close(ended); c.store.Prune(ctx) }()
		eventually(t, what, done)
		cancel()
		<-ended
	}
	prune("the gateway says that pruning is behind", func() bool {
		return c.store.PruneBehind() != nil && c.metric("log_oldest_row_seconds", "") > 10_000
	})
	c.sql("DELETE FROM notification_gateway.horizon; INSERT INTO notification_gateway.horizon VALUES (now() - interval '2 hours', '1000')")
	prune("the gateway says that it is over", func() bool { return c.store.PruneBehind() == nil && c.metric("log_rows_pruned_total", "") == 20 })
}

package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// A feed that asks for id > last never sees a row whose transaction drew its
// ID early and committed late.
func TestFeedSeesLateCommits(t *testing.T) {
	t.Parallel()
	c := setup(t)
	late := c.connect()
	c.on(late, "BEGIN; %s", insert(5, "late"))
	c.sql("%s", insert(5, "early"))
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"early"}) {
		t.Fatalf("first %v, want early", got)
	}
	c.on(late, "COMMIT")
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"late"}) {
		t.Errorf("then %v, want late", got)
	}
}

// Rows of savepoints carry a subtransaction's ID in xmin; a rolled-back one
// must not come, COPY and partitions must.
func TestFeedSeesEveryWayToInsert(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("BEGIN; %s SAVEPOINT a; %s ROLLBACK TO a; SAVEPOINT b; %s RELEASE b; COMMIT", insert(5, "one"), insert(5, "never"), insert(7, "two"))
	c.sql("BEGIN; %s ROLLBACK", insert(5, "never"))
	if _, err := c.conn.CopyFrom(t.Context(), pgx.Identifier{"notifications"}, []string{"user_id", "notification_type", "title", "message"},
		pgx.CopyFromRows([][]any{{5, "x", "three", "m"}, {7, "x", "four", "m"}})); err != nil {
		t.Fatal(err)
	}
	c.sql("SET session_replication_role = replica; %s RESET session_replication_role", insert(5, "five"))
	if got := c.titles(c.collect(5)); !reflect.DeepEqual(got, []string{"one", "two", "three", "four", "five"}) {
		t.Errorf("got %v", got)
	}
}

// PREPARE TRANSACTION refuses a transaction that has notified; without the
// bell the fallback poll must bring the row.
func TestFeedTwoPhaseCommit(t *testing.T) {
	t.Parallel()
	c := setup(t)
	name := fmt.Sprintf("two_phase_%d", rand.Int64())
	c.sql("BEGIN; SET LOCAL notification_gateway.doorbell = 'off'; %s PREPARE TRANSACTION '%s'", insert(5, "prepared"), name)
	c.sql("COMMIT PREPARED '%s'", name)
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"prepared"}) {
		t.Errorf("got %v", got)
	}
}

// A feed that forgets where it was when its connection breaks loses what was
// committed meanwhile.
func TestFeedReconnectsFromWhereItWas(t *testing.T) {
	t.Parallel()
	c := setup(t)
	open := c.connect()
	c.on(open, "BEGIN; %s", insert(5, "open"))
	c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'notification_gateway' AND datname = current_database()")
	c.sql("%s", insert(5, "while deaf"))
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"while deaf"}) {
		t.Fatalf("got %v", got)
	}
	c.on(open, "COMMIT")
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"open"}) {
		t.Errorf("got %v", got)
	}
	if err := c.feed.Ready(); err != nil {
		t.Errorf("not ready after a reconnect: %v", err)
	}
}

// A batch that could not be delivered must come again, whole.
func TestFeedBringsARefusedBatchAgain(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.CRM(t))
	c.make(store.Config{})
	refusals := 0
	c.run(func(b store.Batch) error {
		if len(b.Entries) > 0 && refusals < 2 {
			refusals++
			return errRefused
		}
		return nil
	})
	c.next()
	c.sql("%s", insert(5, "again"))
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"again"}) || refusals != 2 {
		t.Errorf("got %v after %d refusals", got, refusals)
	}
}

// Writers that delay, nest and roll back at random are where a wrong
// predicate loses rows; none may be lost, and none may come twice.
func TestFeedLosesNothingUnderConcurrentWriters(t *testing.T) {
	t.Parallel()
	c := setup(t)
	const writers, transactions = 8, 40
	conns := make([]*pgx.Conn, writers)
	for i := range conns {
		conns[i] = c.connect()
	}
	var mu sync.Mutex
	want := map[string]bool{}
	var running sync.WaitGroup
	for i, conn := range conns {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for j := range transactions {
				kept, dropped := fmt.Sprintf("%d-%d", i, j), fmt.Sprintf("dropped %d-%d", i, j)
				script := "BEGIN;" + insert(5, kept) + fmt.Sprintf("SELECT pg_sleep(%f); SAVEPOINT s;", random.Float64()*0.01) + insert(7, dropped) + "ROLLBACK TO s;"
				commit := random.IntN(4) > 0
				if commit {
					script += "COMMIT"
				} else {
					script += "ROLLBACK"
				}
				if _, err := conn.PgConn().Exec(context.Background(), script).ReadAll(); err != nil {
					t.Error(err)
					return
				}
				if commit {
					mu.Lock()
					want[kept] = true
					mu.Unlock()
				}
			}
		})
	}
	running.Wait()
	for _, got := range c.titles(c.collect(len(want))) {
		if !want[got] {
			t.Errorf("%q came, which was rolled back or came before", got)
		}
		delete(want, got)
	}
	if len(want) > 0 {
		t.Errorf("%d rows were lost", len(want))
	}
}

// A bulk insert larger than one poll may take must come in pieces, whole and
// in order, instead of timing out for ever.
func TestFeedTakesABulkInsertInPieces(t *testing.T) {
	t.Parallel()
	c := setup(t)
	open := c.connect()
	c.on(open, "BEGIN; %s", insert(7, "open"))
	const rows = 25_000
	c.sql("INSERT INTO notifications (user_id, notification_type, title, message) SELECT 5, 'x', i, 'm' FROM generate_series(1, %d) i; %s", rows, insert(5, "after"))
	last := int64(0)
	for n := 0; n < rows+1; {
		b := c.next()
		if len(b.Entries) > 10_000 {
			t.Fatalf("%d rows in one batch", len(b.Entries))
		}
		for _, e := range b.Entries {
			if e.Position <= last {
				t.Fatalf("position %d after %d", e.Position, last)
			}
			last = e.Position
		}
		n += len(b.Entries)
	}
	c.on(open, "COMMIT")
	if e := c.collect(1)[0]; e.UserKey != "7" {
		t.Errorf("got %+v", e)
	}
}

// The order to end a user's streams travels the same way as the rows.
func TestFeedBringsDisconnect(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("SELECT notification_gateway.disconnect('5', 'left the company')")
	if e := c.collect(1)[0]; e.UserKey != "5" || e.Disconnect != "left the company" {
		t.Errorf("got %+v", e)
	}
}

// A commit that is not on disk may be delivered and then erased by a crash.
func TestCaptureMakesCommitsDurable(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("SET synchronous_commit = off")
	var inside, after string
	tx, err := c.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), insert(5, "x")); err != nil {
		t.Fatal(err)
	}
	if err := tx.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&inside); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.conn.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&after); err != nil {
		t.Fatal(err)
	}
	if inside != "local" || after != "off" {
		t.Errorf("synchronous_commit is %s inside and %s after, want local and off", inside, after)
	}
}

// A restored dump has foreign transaction IDs: old cursors would hide rows.
func TestFeedNoticesAnotherServer(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "before"))
	cursor := c.next().Cursor
	if _, err := c.store.ParseCursor(cursor.String()); err != nil {
		t.Fatal(err)
	}
	c.sql("UPDATE notification_gateway.installation SET system_identifier = 1")
	c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'notification_gateway' AND datname = current_database()")
	for { // the feed connects again with a new installation ID
		var reset *store.ResetError
		if _, err := c.store.ParseCursor(cursor.String()); errors.As(err, &reset) {
			if reset.Reason != "foreign" {
				t.Errorf("reason %q, want foreign", reset.Reason)
			}
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the feed did not notice")
		default:
			c.sql("SELECT pg_sleep(0.01)")
		}
	}
}

// Objects that are dropped and made again between two polls have another log:
// whoever goes on polling it with the old position misses what was captured.
func TestFeedNoticesNewObjects(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "before"))
	before := c.collectBatch(1).Cursor
	c.sql("BEGIN; DROP SCHEMA notification_gateway CASCADE")
	// In the same transaction, so that no poll falls between.
	script, err := schema.MigrationScript(schema.MigrateOptions{Mapping: sql.MappingReferenceCRM}, schema.ScriptOptions{NoTransaction: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.conn.PgConn().Exec(t.Context(), script+"; COMMIT").ReadAll(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the feed has polled the new installation", func() bool {
		_, err := c.store.ParseCursor(before.String())
		return err != nil
	})
}

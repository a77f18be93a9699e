package store_test

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// own is setup on a server of the test's own.
func own(t *testing.T) (*crm, *throwaway.Server) {
	t.Helper()
	server, address := storetest.OwnCRM(t)
	c := crmAt(t, address)
	return c, server
}

// follow makes a standby of primary, for as long as the test.
func follow(t *testing.T, primary *throwaway.Server) *throwaway.Server {
	t.Helper()
	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Stop(); err != nil {
			t.Error(err)
		}
	})
	return standby
}

// replayed returns the titles that a client with the position from is brought.
func (c *crm) replayed(from store.Cursor, to store.Cursor) []string {
	c.Helper()
	parsed, err := c.store.ParseCursor(from.String())
	if err != nil {
		c.Fatal(err)
	}
	titles, _ := c.replay(c.store, parsed, to, 100)
	return titles
}

// Transactions that rolled back before a crash never reached the disk, and
// their IDs are handed out again: a snapshot taken before says that the new
// rows have been seen. The bell's locks and the connections are gone too.
func TestCrashHandsTransactionIDsOutAgain(t *testing.T) {
	t.Parallel()
	c, server := own(t)
	c.sql("ALTER SYSTEM SET wal_writer_delay = '10s'") // so that only commits flush
	c.sql("SELECT pg_reload_conf()")
	c.make(store.Config{})
	positions := make(chan store.Cursor, 1000)
	c.run(func(b store.Batch) error { positions <- b.Cursor; return nil })
	c.next()
	// The writer of the log may flush all the same: then once more.
	var position store.Cursor
	for taken := false; !taken; {
		c.sql("%s", insert(5, "before"))
		c.collectBatch(1)
		for range 50 { // IDs that nothing on the disk knows of
			c.sql("BEGIN; %s ROLLBACK", insert(5, "never"))
		}
		used := c.nextTransaction()
		for len(positions) > 0 {
			<-positions
		}
		for range 2 { // the second poll began after they had ended
			c.sql("SET synchronous_commit = off; NOTIFY notification_gateway")
			position = <-positions
		}
		if err := server.Crash(); err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.conn = c.connect()
		taken = c.nextTransaction() < used
	}
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint("after ", i))
		c.sql("%s", insert(5, want[i]))
	}
	var got []string
	var last store.Cursor
	for len(got) < len(want) {
		b := c.next()
		got, last = append(got, c.titles(b.Entries)...), b.Cursor
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("live: got %v", got)
	}
	if got := c.replayed(position, last); !containsAll(got, want) {
		t.Errorf("resumed: got %v", got)
	}
	// Where the clock was set back meanwhile, the time proves nothing.
	if got := c.replayed(position.Later(2*time.Minute), last); !containsAll(got, want) {
		t.Errorf("resumed after a step of the clock: got %v", got)
	}
}

// nextTransaction is the ID that the next transaction will have.
func (c *crm) nextTransaction() (id uint64) {
	c.Helper()
	if err := c.conn.QueryRow(c.Context(), "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").Scan(&id); err != nil {
		c.Fatal(err)
	}
	return id
}

func containsAll(got, want []string) bool {
	return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(got, w) })
}

// An asynchronous standby that is promoted lacks what its primary committed
// last, and hands those transaction IDs to other rows.
func TestFailoverToAnAsynchronousStandby(t *testing.T) {
	t.Parallel()
	c, primary := own(t)
	standby := follow(t, primary)
	c.conn = c.connect()
	hosts := func(s *throwaway.Server) string {
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		return u.Host
	}
	c.open(store.Config{URL: fmt.Sprintf("postgres://postgres@%s,%s/crm?sslmode=disable&target_session_attrs=read-write", hosts(standby), hosts(primary))})
	c.sql("%s", insert(5, "before"))
	c.collectBatch(1)
	there := c.connectTo(strings.Replace(standby.URL, "/postgres?", "/crm?", 1))
	for n := 0; n == 0; { // until it has followed
		if err := there.QueryRow(t.Context(), "SELECT count(*) FROM notifications WHERE title = 'before'").Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	c.on(there, "ALTER SYSTEM SET primary_conninfo = ''")
	c.on(there, "SELECT pg_reload_conf()")
	for n := 1; n > 0; { // until it follows no more
		if err := c.conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_replication").Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		c.sql("%s", insert(5, "lost with the primary"))
	}
	var position store.Cursor
	for n := 0; n < 5; {
		b := c.next()
		n, position = n+len(b.Entries), b.Cursor
	}
	if err := primary.Crash(); err != nil {
		t.Fatal(err)
	}
	c.on(there, "SELECT pg_promote()")
	want := []string{"new 0", "new 1", "new 2"}
	for _, title := range want {
		c.on(there, "%s", insert(5, title))
	}
	var got []string
	var last store.Cursor
	for !containsAll(got, want) {
		b := c.next()
		got, last = append(got, c.titles(b.Entries)...), b.Cursor
	}
	if !reflect.DeepEqual(got, want) { // "before" came already: item ID and time of insert say so
		t.Errorf("live: got %v, want %v", got, want)
	}
	if got := c.replayed(position, last); !containsAll(got, want) {
		t.Errorf("resumed: got %v", got)
	}
}

// A standby's snapshots hide running transactions: it must be refused, said,
// and left as soon as it is promoted.
func TestStandbyIsRefused(t *testing.T) {
	t.Parallel()
	c, primary := own(t)
	standby := follow(t, primary)
	there := strings.Replace(standby.URL, "/postgres?", "/crm?", 1)
	findings := schema.Check(t.Context(), schema.CheckOptions{URL: there})
	if findings[0].OK || !strings.Contains(findings[0].Detail, "standby") {
		t.Errorf("check says %+v", findings[0])
	}
	c.conn = c.connectTo(there)
	c.make(store.Config{URL: there})
	c.run(nil)
	for errors.Is(c.feed.Ready(), store.ErrNotReady) && t.Context().Err() == nil { // until it has tried
		runtime.Gosched()
	}
	if err := c.feed.Ready(); err == nil || !strings.Contains(err.Error(), "read only") && !strings.Contains(err.Error(), "standby") {
		t.Errorf("the feed says %v", err)
	}
	c.sql("SELECT pg_promote()")
	c.next() // the feed has polled
	c.sql("%s", insert(5, "promoted"))
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"promoted"}) {
		t.Errorf("got %v", got)
	}
}

// A connection that is dead but open delivers no notification and no error;
// the kernel would find out after a quarter of an hour.
func TestHalfOpenConnection(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.CRM(t))
	u, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	path := newFrozen(t, u.Host)
	u.Host = path.address
	c.open(store.Config{ListenURL: u.String()})
	c.sql("%s", insert(5, "carried"))
	c.collect(1)
	path.freeze()
	c.sql("%s", insert(5, "swallowed"))
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"swallowed"}) {
		t.Errorf("got %v", got)
	}
	if n := c.metric("feed_reconnects_total", ""); n != 1 {
		t.Errorf("%v reconnects", n)
	}
}

// A statement-level trigger misses a row that is inserted straight into a
// partition; also the partition may have its columns in another order.
func TestPartitionedTable(t *testing.T) {
	t.Parallel()
	address := storetest.Database(t)
	c := crmAt(t, address)
	c.sql(`CREATE TABLE note (id bigint NOT NULL, recipient text, body text, made timestamptz NOT NULL DEFAULT now()) PARTITION BY RANGE (id);
		CREATE TABLE low (made timestamptz NOT NULL DEFAULT now(), body text, recipient text, id bigint NOT NULL);
		ALTER TABLE note ATTACH PARTITION low FOR VALUES FROM (0) TO (1000);
		CREATE TABLE high PARTITION OF note FOR VALUES FROM (1000) TO (2000)`)
	mapping := `CREATE OR REPLACE VIEW notification_gateway.feed AS SELECT id, recipient AS user_key, jsonb_build_object('title', body) AS data, made AS created_at, false AS is_read FROM public.note;
		CREATE OR REPLACE VIEW notification_gateway.identity AS SELECT DISTINCT recipient AS subject, recipient AS user_key FROM public.note;`
	if _, err := schema.Migrate(t.Context(), address, schema.MigrateOptions{Mapping: mapping}); err != nil {
		t.Fatal(err)
	}
	if _, err := schema.Attach(t.Context(), address, schema.AttachOptions{Table: "note", UserColumn: "recipient", IDColumn: "id"}); err != nil {
		t.Fatal(err)
	}
	c.open(store.Config{})
	c.sql("BEGIN; INSERT INTO note (id, recipient, body) VALUES (1, 'a', 'parent'); INSERT INTO low (id, recipient, body) VALUES (2, 'b', 'low'); INSERT INTO high (id, recipient, body) VALUES (1001, 'c', 'high'); COMMIT")
	c.sql("CREATE TABLE later PARTITION OF note FOR VALUES FROM (2000) TO (3000); INSERT INTO later (id, recipient, body) VALUES (2001, 'd', 'later')")
	c.sql("ALTER TABLE note RENAME recipient TO owner; INSERT INTO low (id, owner, body) VALUES (3, 'e', 'renamed')")
	var users []string
	entries := c.collect(5)
	for _, e := range entries {
		users = append(users, e.UserKey)
	}
	if !reflect.DeepEqual(users, []string{"a", "b", "c", "d", "e"}) {
		t.Errorf("recipients %v", users)
	}
	if got := c.titles(entries); !reflect.DeepEqual(got, []string{"parent", "low", "high", "later", "renamed"}) {
		t.Errorf("got %v", got)
	}
}

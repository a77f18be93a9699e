package store_test

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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

func containsAll(got, want []string) bool {
	return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(got, w) })
}

// split is a primary that has crashed, and its promoted standby, which lacks the
// rows that the primary committed last.
type split struct {
	*crm                  // at the primary
	there    *pgx.Conn    // to the standby
	early    store.Cursor // before the rows that are lost
	position store.Cursor // after them
}

// failOver makes a split, with a running feed that may use both servers.
func failOver(t *testing.T) *split {
	t.Helper()
	c, primary := own(t)
	standby := follow(t, primary)
	c.conn = c.connect()
	c.open(store.Config{URL: fmt.Sprintf("postgres://postgres@%s,%s/crm?sslmode=disable&target_session_attrs=read-write", host(t, standby), host(t, primary))})
	c.sql("%s", insert(5, "before"))
	s := &split{crm: c, early: c.collectBatch(1).Cursor, there: c.connectTo(database(standby))}
	for n := 0; n == 0; { // until it has followed
		if err := s.there.QueryRow(t.Context(), "SELECT count(*) FROM notifications WHERE title = 'before'").Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	c.on(s.there, "ALTER SYSTEM SET primary_conninfo = ''")
	c.on(s.there, "SELECT pg_reload_conf()")
	for n := 1; n > 0; { // until it follows no more
		if err := c.conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_replication").Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		c.sql("%s", insert(5, "lost with the primary"))
	}
	for n := 0; n < 5; {
		b := c.next()
		n, s.position = n+len(b.Entries), b.Cursor
	}
	if err := primary.Crash(); err != nil {
		t.Fatal(err)
	}
	c.on(s.there, "SELECT pg_promote()")
	return s
}

func host(t *testing.T, s *throwaway.Server) string {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// database is the URL of the CRM's database on a server.
func database(s *throwaway.Server) string { return strings.Replace(s.URL, "/postgres?", "/crm?", 1) }

// An asynchronous standby that is promoted lacks what its primary committed
// last, and hands those transaction IDs to other rows. Its clock may be behind
// the primary's, so that no time tells the rows apart. The new rows must come, and
// clients that have the lost ones must be told to reload.
func TestFailoverToAnAsynchronousStandby(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]string{"clocks agree": "0 s", "clock behind": "3 min"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := failOver(t)
			s.on(s.there, "ALTER TABLE notification_gateway.log ALTER inserted_at SET DEFAULT clock_timestamp() - interval '%s'", behind)
			want := []string{"new 0", "new 1", "new 2"}
			for _, title := range want {
				s.on(s.there, "%s", insert(5, title))
			}
			var got []string
			var last store.Cursor
			reset := ""
			for !containsAll(got, want) {
				b := s.next()
				got, last, reset = append(got, s.titles(b.Entries)...), b.Cursor, reset+b.Reset
			}
			if !reflect.DeepEqual(got, want) { // "before" came already: item ID and time of insert say so
				t.Errorf("live: got %v, want %v", got, want)
			}
			if behind == "0 s" && reset != store.ResetForeign {
				t.Errorf("live: the reset says %q", reset)
			}
			if got := s.replayed(s.early, last); !containsAll(got, want) {
				t.Errorf("resumed from before: got %v", got)
			}
			parsed, err := s.store.ParseCursor(s.position.String())
			if err != nil {
				t.Fatal(err)
			}
			page, err := s.store.Replay(t.Context(), store.Reader{Keys: []string{"5"}}, parsed, last, store.Place{}, 100, 1<<20)
			var told *store.ResetError
			if got := titlesOf(page); !errors.As(err, &told) && (err != nil || !containsAll(got, want)) {
				t.Errorf("resumed: got %v, %v", got, err)
			}
			if behind == "0 s" && told == nil {
				t.Error("a client that has the lost rows is not told")
			}
		})
	}
}

func titlesOf(page store.Page) (titles []string) {
	for _, n := range page.Notifications {
		titles = append(titles, title(n))
	}
	return titles
}

// A clean restart loses nothing and hands nothing out again. Clients got the rows
// of the last minute again all the same.
func TestCleanRestartRepeatsNothing(t *testing.T) {
	t.Parallel()
	c, server := own(t)
	c.open(store.Config{})
	c.sql("%s", insert(5, "first"))
	position := c.collectBatch(1).Cursor
	c.sql("%s", insert(5, "second"))
	c.collect(1)
	if err := server.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.conn = c.connect()
	c.sql("%s", insert(5, "third"))
	b := c.next()
	if got := c.titles(b.Entries); !reflect.DeepEqual(got, []string{"third"}) || b.Reset != "" {
		t.Errorf("live: got %v, reset %q", got, b.Reset)
	}
	if got := c.replayed(position, b.Cursor); !reflect.DeepEqual(got, []string{"second", "third"}) {
		t.Errorf("resumed: got %v", got)
	}
}

// A pool that may go to any host of a list went to a standby: live rows were
// "gone" there, and clients were moved past them.
func TestPoolKeepsToThePrimary(t *testing.T) {
	t.Parallel()
	c, primary := own(t)
	standby := follow(t, primary)
	c.conn = c.connect()
	there := c.connectTo(database(standby))
	c.on(there, "SELECT pg_wal_replay_pause()")
	c.open(store.Config{URL: fmt.Sprintf("postgres://postgres@%s,%s/crm?sslmode=disable", host(t, standby), host(t, primary))})
	c.sql("%s", insert(5, "only on the primary"))
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"only on the primary"}) {
		t.Errorf("got %v", got)
	}
}

// After a split the pool may reach another primary than the feed. What is missing
// there is not gone.
func TestPoolRefusesAnotherServer(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("%s", insert(5, "row"))
	entries := c.collect(1)
	if got := c.titles(entries); !reflect.DeepEqual(got, []string{"row"}) {
		t.Errorf("got %v", got)
	}
	c.sql("UPDATE notification_gateway.incarnation SET id = gen_random_uuid()") // as of another server
	c.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity a WHERE application_name = 'notification_gateway' AND datname = current_database()
		AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'advisory')`) // the pool, and not the feed
	for { // a connection that was just ended may be tried first
		rows, err := c.store.Load(t.Context(), entries)
		if err == nil {
			t.Fatalf("rows of another server were loaded: %v", rows)
		}
		if strings.Contains(err.Error(), "another server") {
			return
		}
	}
}

// A standby's snapshots hide running transactions: it must be refused, said,
// and left as soon as it is promoted.
func TestStandbyIsRefused(t *testing.T) {
	t.Parallel()
	c, primary := own(t)
	standby := follow(t, primary)
	there := database(standby)
	findings := schema.Check(t.Context(), schema.CheckOptions{URL: there})
	if findings[0].OK || !strings.Contains(findings[0].Detail, "standby") {
		t.Errorf("check says %+v", findings[0])
	}
	_, err := schema.Migrate(t.Context(), there, schema.MigrateOptions{})
	_, attachErr := schema.Attach(t.Context(), there, schema.AttachOptions{Table: "notifications", UserColumns: []string{"user_id"}, IDColumn: "id"})
	for command, err := range map[string]error{"migrate": err, "attach": attachErr} {
		if err == nil || !strings.Contains(err.Error(), "this server is a standby (a read replica): run this at the primary") {
			t.Errorf("%s says %v", command, err)
		}
	}
	findings = schema.Check(t.Context(), schema.CheckOptions{URL: c.url, ListenURL: there})
	if f := findings[1]; f.Name != "listen" || f.OK || !strings.Contains(f.Detail, "is a standby") || strings.Contains(f.Detail, "pooler") {
		t.Errorf("with LISTEN at a standby check says %+v", f)
	}
	c.conn = c.connectTo(there)
	c.make(store.Config{URL: there})
	c.run(nil)
	eventually(t, "the feed has tried to connect", func() bool { return !errors.Is(c.feed.Ready(), store.ErrNotReady) })
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
	if _, err := schema.Attach(t.Context(), address, schema.AttachOptions{Table: "note", UserColumns: []string{"recipient"}, IDColumn: "id"}); err != nil {
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

// A commit waits for a synchronous standby, and one that hangs holds up every
// session that writes. A session of ours that waited for it would make the gateway
// unready, though it has nothing to say to the standby.
func TestSynchronousStandbyThatHangs(t *testing.T) {
	t.Parallel()
	c, _ := own(t)
	c.conn = c.connect()
	c.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	c.sql("SET synchronous_commit = local; SELECT pg_reload_conf()")
	for names := ""; names == ""; {
		if err := c.conn.QueryRow(t.Context(), "SELECT current_setting('synchronous_standby_names')").Scan(&names); err != nil {
			t.Fatal(err)
		}
	}
	c.open(store.Config{})
	for _, name := range []string{"one", "two"} {
		c.sql("%s", insert(5, name))
		if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{name}) {
			t.Errorf("%q came", got)
		}
	}
	if c.metric("feed_wakes_total", "notify") == 0 {
		t.Error("the feed took no slot")
	}
	if err := c.feed.Ready(); err != nil {
		t.Errorf("the feed is not ready: %v", err)
	}
	if err := c.feed.PollOnly(); err != nil {
		t.Errorf("the feed only polls: %v", err)
	}
}

package store_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// crm is a database with the reference CRM, a store over it and a running feed.
type crm struct {
	t     *testing.T
	url   string
	conn  *pgx.Conn
	store *store.Store
	feed  *store.Feed
	stats *prometheus.Registry
	got   chan store.Batch // every batch with entries, and the first
	last  store.Cursor     // of the batch that next returned last
}

// crmAt is a CRM whose database is there, and on which no gateway runs.
func crmAt(t *testing.T, url string) *crm {
	t.Helper()
	c := &crm{t: t, url: url}
	c.conn = c.connect()
	return c
}

func setup(t *testing.T) *crm { return setupWith(t, store.Config{}) }

func setupWith(t *testing.T, config store.Config) *crm {
	t.Helper()
	c := crmAt(t, storetest.CRM(t))
	c.open(config)
	return c
}

// replica is another gateway at the same database.
func (c *crm) replica() *crm {
	c.t.Helper()
	other := &crm{t: c.t, url: c.url, conn: c.conn}
	other.open(store.Config{})
	return other
}

// open makes the store and runs its feed.
func (c *crm) open(config store.Config) {
	c.t.Helper()
	c.make(config)
	c.run(nil)
	c.next() // the position to begin at
}

// make makes the store and its feed, which does not run yet.
func (c *crm) make(config store.Config) {
	c.t.Helper()
	c.stats, c.got = prometheus.NewRegistry(), make(chan store.Batch, 1000)
	if config.URL == "" {
		config.URL = c.url
	}
	config.Retention = time.Hour
	config.Metrics = store.NewMetrics(c.stats)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if c.store, err = store.Open(c.t.Context(), config); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(c.store.Close)
	if c.feed, err = store.NewFeed(c.store); err != nil {
		c.t.Fatal(err)
	}
}

// run follows the feed until the test ends; fail, when not nil, decides
// whether a batch is refused.
func (c *crm) run(fail func(store.Batch) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	first, reset := true, ""
	go func() {
		defer close(done)
		c.feed.Run(ctx, taker(func(_ context.Context, b store.Batch) error {
			if fail != nil {
				if err := fail(b); err != nil {
					return err
				}
			}
			reset += b.Reset // of a batch without entries, too
			if first || len(b.Entries) > 0 {
				b.Reset = reset
				first, reset = false, ""
				c.got <- b
			}
			return nil
		}))
	}()
	c.t.Cleanup(func() { cancel(); <-done })
}

// metric returns the value of a counter or gauge; label is the value of its
// one label, "" without one.
func (c *crm) metric(name, label string) float64 {
	c.t.Helper()
	families, err := c.stats.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "notification_gateway_"+name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	c.t.Fatalf("no metric %s %s", name, label)
	return 0
}

func (c *crm) connect() *pgx.Conn { return c.connectTo(c.url) }

func (c *crm) connectTo(url string) *pgx.Conn {
	c.t.Helper()
	conn, err := pgx.Connect(c.t.Context(), url)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (c *crm) sql(format string, args ...any) {
	c.t.Helper()
	c.on(c.conn, format, args...)
}

func (c *crm) on(conn *pgx.Conn, format string, args ...any) {
	c.t.Helper()
	if _, err := conn.PgConn().Exec(c.t.Context(), fmt.Sprintf(format, args...)).ReadAll(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crm) next() store.Batch {
	c.t.Helper()
	select {
	case b := <-c.got:
		c.last = b.Cursor
		return b
	case <-time.After(30 * time.Second):
		c.t.Fatal("no batch came")
		panic("unreachable")
	}
}

// titles loads entries and returns their titles.
func (c *crm) titles(entries []store.Entry) []string {
	c.t.Helper()
	rows, err := c.store.Load(c.t.Context(), entries)
	if err != nil {
		c.t.Fatal(err)
	}
	var out []string
	for _, n := range rows {
		out = append(out, title(n))
	}
	return out
}

// collect waits for n entries.
func (c *crm) collect(n int) []store.Entry {
	c.t.Helper()
	var out []store.Entry
	for len(out) < n {
		out = append(out, c.next().Entries...)
	}
	if len(out) > n {
		c.t.Fatalf("%d entries came, want %d", len(out), n)
	}
	return out
}

// collectBatch waits for the batch that holds n entries.
func (c *crm) collectBatch(n int) store.Batch {
	c.t.Helper()
	b := c.next()
	if len(b.Entries) != n {
		c.t.Fatalf("%d entries came, want %d", len(b.Entries), n)
	}
	return b
}

// sessions are the server processes of the gateway's connections.
func (c *crm) sessions(where string) (pids string) {
	c.t.Helper()
	const ask = "SELECT coalesce(string_agg(pid::text, ' ' ORDER BY pid), '') FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'notification_gateway' AND "
	if err := c.conn.QueryRow(c.t.Context(), ask+where).Scan(&pids); err != nil {
		c.t.Fatal(err)
	}
	return pids
}

// keys returns who a batch's rows are for, and which they are.
func (c *crm) keys(n int) (keys [][2]string) {
	c.t.Helper()
	for _, e := range c.collect(n) {
		keys = append(keys, [2]string{e.UserKey, e.ItemID})
	}
	return keys
}

// burst inserts from all connections at once and returns how many rows.
func (c *crm) burst(conns []*pgx.Conn, each int) int {
	c.t.Helper()
	var running sync.WaitGroup
	for _, conn := range conns {
		running.Go(func() {
			for range each {
				if _, err := conn.Exec(context.Background(), insert(5, "burst")); err != nil {
					c.t.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	return len(conns) * each
}

// listen returns a function that says whether somebody has rung.
func (c *crm) listen() (heard func() bool) {
	c.t.Helper()
	listener := c.connect()
	c.on(listener, "LISTEN notification_gateway")
	return func() bool {
		c.on(listener, "SELECT 1") // notifications come with the answer
		n, err := listener.WaitForNotification(expired(c.t))
		return err == nil && n != nil
	}
}

// keepAwake holds the slots as a crowd of writers does, so that the feed cannot
// sleep.
func (c *crm) keepAwake() {
	c.t.Helper()
	c.sql("SELECT pg_advisory_lock_shared(1734440037, slot) FROM generate_series(2, 8) slot")
	c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'notification_gateway' AND datname = current_database()")
	c.sql("SELECT pg_advisory_lock_shared(1734440037, 1)")
	for c.bell() != 0 && c.t.Context().Err() == nil { // until it has tried
	}
}

func (c *crm) bell() (n int) {
	c.t.Helper()
	if err := c.conn.QueryRow(c.t.Context(), readBell).Scan(&n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// replayed returns the titles that a client with the position from is brought.
func (c *crm) replayed(from store.Cursor, to store.Cursor) []string {
	c.t.Helper()
	parsed, err := c.store.ParseCursor(from.String())
	if err != nil {
		c.t.Fatal(err)
	}
	titles, _ := c.replay(c.store, parsed, to, 100)
	return titles
}

// nextTransaction is the ID that the next transaction will have.
func (c *crm) nextTransaction() (id uint64) {
	c.t.Helper()
	if err := c.conn.QueryRow(c.t.Context(), "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").Scan(&id); err != nil {
		c.t.Fatal(err)
	}
	return id
}

// parse reads a position as a client brings it back.
func (c *crm) parse(position store.Cursor) store.Cursor {
	c.t.Helper()
	parsed, err := c.store.ParseCursor(position.String())
	if err != nil {
		c.t.Fatal(err)
	}
	return parsed
}

// newLife makes the server's life another one for the gateway, as a crash or a
// promotion does.
func (c *crm) newLife() {
	c.t.Helper()
	c.sql("UPDATE notification_gateway.incarnation SET id = gen_random_uuid()")
	c.reconnect()
}

// reconnect ends the gateway's connections.
func (c *crm) reconnect() {
	c.t.Helper()
	c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'notification_gateway' AND datname = current_database()")
}

// burnTo uses transaction IDs up until the next is id.
func (c *crm) burnTo(id uint64) {
	c.t.Helper()
	c.sql("DO $$ BEGIN FOR i IN 1 .. %d LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$", id-c.nextTransaction())
}

// prune calls the function with a retention in milliseconds.
func (c *crm) prune(keep, batch int) (removed int, openFor time.Duration) {
	c.t.Helper()
	var seconds float64
	if err := c.conn.QueryRow(c.t.Context(), "SELECT removed, extract(epoch FROM open_for)::float8 FROM notification_gateway.prune(make_interval(secs => $1::float8 / 1000), $2)",
		keep, batch).Scan(&removed, &seconds); err != nil {
		c.t.Fatal(err)
	}
	return removed, time.Duration(seconds * float64(time.Second))
}

func (c *crm) logged() (n int) {
	c.t.Helper()
	if err := c.conn.QueryRow(c.t.Context(), "SELECT count(*) FROM notification_gateway.log").Scan(&n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// replay pages from one position to another and returns the titles, and the
// position that each proves.
func (c *crm) replay(s *store.Store, from, to store.Cursor, limit int) (titles []string, cursors []store.Cursor) {
	c.t.Helper()
	var after store.Place
	for {
		page, err := s.Replay(c.t.Context(), store.Reader{Keys: []string{"5"}}, from, to, after, limit, 4<<20)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, n := range page.Notifications {
			titles = append(titles, title(n))
		}
		cursors = append(cursors, page.After...)
		if !page.More {
			return titles, cursors
		}
		after = page.Next
	}
}

// restored dumps the database and restores it on another server. Where there
// is no pg_dump of the server's version, it copies what a dump would bring.
func (c *crm) restored() *crm {
	c.t.Helper()
	var major int
	if err := c.conn.QueryRow(c.t.Context(), "SELECT current_setting('server_version_num')::int / 10000").Scan(&major); err != nil {
		c.t.Fatal(err)
	}
	pgDump, psql := clients(major)
	if pgDump == "" {
		c.t.Logf("no pg_dump %d is here: the tables are copied one by one", major)
		return c.copied()
	}
	dump, err := exec.CommandContext(c.t.Context(), pgDump, "--no-owner", c.url).Output()
	if err != nil {
		c.t.Fatal(err)
	}
	storetest.CRM(c.t) // so that the server has the role, which belongs to no database
	there := &crm{t: c.t, url: storetest.Database(c.t)}
	restore := exec.CommandContext(c.t.Context(), psql, "-q", "-v", "ON_ERROR_STOP=1", there.url)
	restore.Stdin = bytes.NewReader(dump)
	if out, err := restore.CombinedOutput(); err != nil {
		c.t.Fatalf("%v: %s", err, out)
	}
	there.conn = there.connect()
	return there
}

// copied brings the rows to another server without pg_dump.
func (c *crm) copied() *crm {
	c.t.Helper()
	there := &crm{t: c.t, url: storetest.CRM(c.t)}
	there.conn = there.connect()
	for _, table := range []string{"public.notifications", "notification_gateway.installation", "notification_gateway.incarnation", "notification_gateway.horizon", "notification_gateway.log"} {
		there.sql("DELETE FROM %s", table) // of the log, also what capturing the rows has written
		var rows bytes.Buffer
		if _, err := c.conn.PgConn().CopyTo(c.t.Context(), &rows, "COPY "+table+" TO STDOUT"); err != nil {
			c.t.Fatal(err)
		}
		if _, err := there.conn.PgConn().CopyFrom(c.t.Context(), &rows, "COPY "+table+" FROM STDIN"); err != nil {
			c.t.Fatal(err)
		}
	}
	there.sql("SELECT setval(pg_get_serial_sequence('public.notifications', 'id'), max(id)) FROM notifications")
	return there
}

// unread brings a user's unread notifications as a stream's replay does.
func (c *crm) unread(userKey string, limit int) (titles []string, largest int) {
	c.t.Helper()
	list, err := c.store.Unread(c.t.Context(), userKey, limit)
	rest := list.Entries
	for len(rest) > 0 {
		var page []store.Notification
		if page, err = c.store.LoadPage(c.t.Context(), rest, 4<<20); err != nil || len(page) == 0 {
			break
		}
		bytes := 0
		for _, n := range page {
			titles, bytes = append(titles, title(n)), bytes+len(n.Data)
		}
		rest, largest = rest[len(page):], max(largest, bytes)
	}
	if err != nil || len(rest) > 0 {
		c.t.Fatalf("%d of the unread are left: %v", len(rest), err)
	}
	return titles, largest
}

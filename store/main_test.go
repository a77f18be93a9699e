package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// crm is a database with the reference CRM, a store over it and a running feed.
type crm struct {
	*testing.T
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
	c := &crm{T: t, url: url}
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
	c.Helper()
	other := &crm{T: c.T, url: c.url, conn: c.conn}
	other.open(store.Config{})
	return other
}

// open makes the store and runs its feed.
func (c *crm) open(config store.Config) {
	c.Helper()
	c.make(config)
	c.run(nil)
	c.next() // the position to begin at
}

// make makes the store and its feed, which does not run yet.
func (c *crm) make(config store.Config) {
	c.Helper()
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
	if c.store, err = store.Open(c.Context(), config); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(c.store.Close)
	if c.feed, err = store.NewFeed(c.store); err != nil {
		c.Fatal(err)
	}
}

// run follows the feed until the test ends; fail, when not nil, decides
// whether a batch is refused.
func (c *crm) run(fail func(store.Batch) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	first := true
	go func() {
		defer close(done)
		c.feed.Run(ctx, taker(func(_ context.Context, b store.Batch) error {
			if fail != nil {
				if err := fail(b); err != nil {
					return err
				}
			}
			if first || len(b.Entries) > 0 {
				first = false
				c.got <- b
			}
			return nil
		}))
	}()
	c.Cleanup(func() { cancel(); <-done })
}

// taker takes batches for a gateway with a stream.
type taker func(context.Context, store.Batch) error

func (t taker) Deliver(ctx context.Context, b store.Batch) error { return t(ctx, b) }
func (t taker) Streams() int                                     { return 1 }

// metric returns the value of a counter or gauge; label is the value of its
// one label, "" without one.
func (c *crm) metric(name, label string) float64 {
	c.Helper()
	families, err := c.stats.Gather()
	if err != nil {
		c.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "notification_gateway_"+name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	c.Fatalf("no metric %s %s", name, label)
	return 0
}

func (c *crm) connect() *pgx.Conn { return c.connectTo(c.url) }

func (c *crm) connectTo(url string) *pgx.Conn {
	c.Helper()
	conn, err := pgx.Connect(c.Context(), url)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (c *crm) sql(format string, args ...any) {
	c.Helper()
	c.on(c.conn, format, args...)
}

func (c *crm) on(conn *pgx.Conn, format string, args ...any) {
	c.Helper()
	if _, err := conn.PgConn().Exec(c.Context(), fmt.Sprintf(format, args...)).ReadAll(); err != nil {
		c.Fatal(err)
	}
}

const insertInto = "INSERT INTO notifications (user_id, notification_type, title, message) VALUES "

// insert is the statement that inserts a notification with a title.
func insert(user int, title string) string {
	return fmt.Sprintf(insertInto+"(%d, 'x', '%s', 'm');", user, title)
}

func (c *crm) next() store.Batch {
	c.Helper()
	select {
	case b := <-c.got:
		c.last = b.Cursor
		return b
	case <-time.After(30 * time.Second):
		c.Fatal("no batch came")
		panic("unreachable")
	}
}

// titles loads entries and returns their titles.
func (c *crm) titles(entries []store.Entry) []string {
	c.Helper()
	rows, err := c.store.Load(c.Context(), entries)
	if err != nil {
		c.Fatal(err)
	}
	var out []string
	for _, n := range rows {
		out = append(out, title(n))
	}
	return out
}

// collect waits for n entries.
func (c *crm) collect(n int) []store.Entry {
	c.Helper()
	var out []store.Entry
	for len(out) < n {
		out = append(out, c.next().Entries...)
	}
	if len(out) > n {
		c.Fatalf("%d entries came, want %d", len(out), n)
	}
	return out
}

// collectBatch waits for the batch that holds n entries.
func (c *crm) collectBatch(n int) store.Batch {
	c.Helper()
	b := c.next()
	if len(b.Entries) != n {
		c.Fatalf("%d entries came, want %d", len(b.Entries), n)
	}
	return b
}

func title(n store.Notification) string {
	switch {
	case n.Err != nil:
		return "error"
	case n.Data == nil:
		return "gone"
	}
	var d struct{ Title string }
	if err := json.Unmarshal(n.Data, &d); err != nil {
		return "broken"
	}
	return d.Title
}

var errRefused = errors.New("refused")

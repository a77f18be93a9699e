package store_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// A LISTEN or NOTIFY that Postgres refuses, because the queue of notifications is
// damaged or full, kept the feed from connecting at all: no client got anything.
// The log can be followed without it.
func TestListenThatFails(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{"of a probe": "LISTEN notification_gateway_probe", "of the channel": "LISTEN notification_gateway\x00"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := crmAt(t, storetest.CRM(t))
			u, err := url.Parse(c.url)
			if err != nil {
				t.Fatal(err)
			}
			u.Host = relay(t, u.Host, func(in, out net.Conn) {
				go spoil(out, in, statement)
				go func() { defer in.Close(); io.Copy(in, out) }()
			})
			c.open(store.Config{ListenURL: u.String()})
			c.sql("%s", insert(5, "polled"))
			if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"polled"}) {
				t.Errorf("got %v", got)
			}
			if err := c.feed.Ready(); err != nil {
				t.Errorf("not ready: %v", err)
			}
			if err := c.feed.PollOnly(); err == nil || !strings.Contains(err.Error(), "LISTEN fails") {
				t.Errorf("the feed says %v", err)
			}
			if n := c.metric("feed_poll_only", ""); n != 1 {
				t.Errorf("feed_poll_only is %v", n)
			}
		})
	}
}

// spoil carries and makes a statement one that Postgres does not know.
func spoil(to io.WriteCloser, from io.Reader, statement string) {
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		spoiled := bytes.ReplaceAll(b[:n], []byte(statement), []byte(strings.Replace(statement, "LISTEN", "LISTEX", 1)))
		if _, e := to.Write(spoiled); err != nil || e != nil {
			return
		}
	}
}

// Past a part of the queue of notifications writers notify nobody. A feed that
// waits for them gets its rows seconds later.
func TestFeedDoesNotWaitForAFullQueue(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("ALTER FUNCTION notification_gateway.sleep() RENAME TO slept")
	// The queue has 8 GB before Postgres 17: this stands for one that fills up.
	c.sql(`CREATE FUNCTION notification_gateway.pg_notification_queue_usage() RETURNS float8 LANGUAGE sql AS 'SELECT 0.21::float8';
		DO $do$ BEGIN EXECUTE replace(replace(pg_get_functiondef('notification_gateway.slept()'::regprocedure), 'slept', 'sleep'),
			'pg_notification_queue_usage', 'notification_gateway.pg_notification_queue_usage'); END $do$`)
	c.reconnect()
	for connects := 0.0; connects == 0 || c.feed.Ready() != nil; connects = c.metric("feed_reconnects_total", "") {
		c.sql("SELECT pg_sleep(0.01)")
	}
	heard := c.listen()
	c.sql("%s", insert(5, "polled"))
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"polled"}) || heard() {
		t.Errorf("got %v, or somebody was notified", got)
	}
	if n := c.metric("feed_unrung_rows_total", ""); n != 0 {
		t.Errorf("%v rows were left to the fallback poll", n)
	}
}

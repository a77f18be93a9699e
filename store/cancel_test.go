package store_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// sleepy gives rows whose title begins with "sleep" after so many seconds.
const sleepy = `ALTER VIEW notification_gateway.feed RENAME TO was;
	CREATE VIEW notification_gateway.feed AS SELECT id, user_key, CASE WHEN data ->> 'title' LIKE 'sleep%%' THEN
		(SELECT data FROM pg_sleep(substr(data ->> 'title', 7)::double precision)) ELSE data END AS data, created_at, is_read FROM notification_gateway.was`

// A client that left in the middle of a replay cost Postgres a connection: the
// statement was given up with its connection, and went on running.
func TestGivingUpAReplayKeepsItsConnection(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.CRM(t))
	c.open(store.Config{URL: withParameter(c.url, "pool_max_conns=1"), ListenURL: c.url})
	c.sql(sleepy)
	c.sql("%s", insert(5, "sleep 60")+insert(5, "other"))
	entries := c.collect(2)
	other := entries[1:]
	c.titles(other)
	before := c.sessions("true")
	for range 3 {
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { _, err := c.store.LoadPage(ctx, entries, 4<<20); left <- err }()
		eventually(t, "a row is being read", func() bool { return c.sessions("wait_event = 'PgSleep'") != "" })
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left gets %v", err)
		}
		if got := c.titles(other); !reflect.DeepEqual(got, []string{"other"}) {
			t.Errorf("the next one gets %v", got)
		}
	}
	if after := c.sessions("true"); after != before {
		t.Errorf("the sessions were %s and are %s", before, after)
	}
}

// A request to cancel names a connection, not a statement. One that comes late
// would cancel what the next client asks.
func TestGivingUpDisturbsNobodyAfterwards(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.CRM(t))
	c.open(store.Config{URL: withParameter(c.url, "pool_max_conns=1"), ListenURL: c.url})
	c.sql(sleepy)
	c.sql("%s", insert(5, "sleep 0.0502")+insert(5, "sleep 0.002"))
	entries := c.collect(2)
	for i := range 60 {
		ctx, leave := context.WithTimeout(t.Context(), time.Duration(i%20)*100*time.Microsecond)
		c.store.LoadPage(ctx, entries[:1], 4<<20)
		leave()
		for range 3 {
			rows, err := c.store.Load(t.Context(), entries[1:])
			if err != nil || rows[0].Err != nil {
				t.Fatalf("round %d: %v, %v", i, rows, err)
			}
		}
	}
}

// withParameter adds a parameter to a connection string in the form of a URL.
func withParameter(url, parameter string) string {
	if strings.Contains(url, "?") {
		return fmt.Sprint(url, "&", parameter)
	}
	return fmt.Sprint(url, "?", parameter)
}

package store_test

import (
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// A Postgres that always answers later than the feed waits would be asked for
// ever and never be heard: each try must wait longer than the last.
func TestSlowPostgresIsWaitedFor(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.CRM(t))
	u, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = late(t, u.Host, 60*time.Millisecond)
	c.make(store.Config{ListenURL: u.String()})
	c.feed.Impatient(20 * time.Millisecond)
	c.run(nil)
	eventually(t, "the feed says that Postgres is slow", func() bool {
		err := c.feed.Ready()
		return err != nil && strings.Contains(err.Error(), "does not answer in time")
	})
	c.next()
	c.sql("%s", insert(5, "slowly"))
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"slowly"}) {
		t.Errorf("got %v", got)
	}
}

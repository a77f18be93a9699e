package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"reflect"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// One log row with a text that has no UTF-8 form stopped the feed for everybody,
// until it was pruned.
func TestRowWithoutUTF8StopsNobody(t *testing.T) {
	t.Parallel()
	c := &crm{t: t, url: storetest.Database(t)}
	admin := c.connect()
	name := fmt.Sprintf("ascii_%016x", rand.Uint64())
	c.on(admin, "CREATE DATABASE %s ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0", name)
	t.Cleanup(func() {
		if _, err := admin.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	at, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	at.Path = "/" + name
	c.url = at.String()
	c.conn = c.connect()
	c.sql("%s", sql.ReferenceCRM)
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: sql.MappingReferenceCRM}); err != nil {
		t.Fatal(err)
	}
	c.open(store.Config{})
	const row = "INSERT INTO notification_gateway.log (user_key, item_id, disconnect) VALUES "
	c.sql(row + `('5', '1', NULL), ('5', '2', NULL), (convert_from('\xe9', 'SQL_ASCII'), '3', NULL), ('5', '4', NULL),
		('7', '', convert_from('\xc3', 'SQL_ASCII')), ('5', convert_from('\xe9', 'SQL_ASCII'), NULL), ('5', '5', NULL); NOTIFY notification_gateway`)
	var got []string
	from := c.last
	entries := c.collect(7)
	for _, e := range entries {
		got = append(got, e.UserKey+" "+e.ItemID+" "+e.Disconnect)
	}
	if want := []string{"5 1 ", "5 2 ", "  ", "5 4 ", "7  disconnected", "5  ", "5 5 "}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
	// The row without an ID is nobody's but its user's, who is told of it.
	if rows, err := c.store.Load(t.Context(), entries[5:6]); err != nil || rows[0].Err == nil {
		t.Errorf("the row without an ID loads as %+v, %v", rows, err)
	}
	for _, limit := range []int{2, 100} {
		if got, _ := c.replay(c.replica().store, from, c.last, limit); !reflect.DeepEqual(got, []string{"gone", "gone", "gone", "error", "gone"}) {
			t.Errorf("a replay, limit %d, gives %q", limit, got)
		}
	}
	c.sql(row + "('5', '6', NULL); NOTIFY notification_gateway")
	if e := c.collect(1)[0]; e.ItemID != "6" {
		t.Errorf("afterwards comes %+v", e)
	}
}

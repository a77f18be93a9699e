package store_test

import (
	"fmt"
	"os"
	"reflect"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// Gateways are replaced before or after migrate runs, and beside older ones. One
// that needs the objects of today stops, or loses what was captured meanwhile.
func TestOlderObjects(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.Database(t))
	c.sql("%s", sql.ReferenceCRM)
	c.sql("INSERT INTO employees (id, first_name, last_name, email) VALUES (5, 'Alice', 'Archer', 'alice@example.com')")
	for i, name := range []string{"objects", "bell"} {
		text, err := os.ReadFile(fmt.Sprintf("schema/testdata/released/000%d_%s.sql", i+1, name))
		if err != nil {
			t.Fatal(err)
		}
		c.sql("BEGIN; %s; INSERT INTO notification_gateway.migration VALUES (%d, '%s'); COMMIT", text, i+1, name)
	}
	c.sql("BEGIN; %s; COMMIT", sql.MappingReferenceCRM)
	c.sql("CREATE TRIGGER notification_gateway_capture AFTER INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION notification_gateway.capture('user_id', 'id', '2', '1')")
	c.open(store.Config{})
	c.sql("%s", insert(5, "first"))
	first := c.collectBatch(1).Cursor
	if removed, _ := c.prune(1000, 10); removed != 0 {
		t.Errorf("%d rows were pruned", removed)
	}
	c.newLife()
	c.sql("%s", insert(5, "second"))
	second := c.collectBatch(1).Cursor
	if got := c.replayed(first, second); !containsAll(got, []string{"second"}) {
		t.Errorf("from another life: got %v", got)
	}
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.sql("%s; SELECT notification_gateway.record('5', id::text, 'updated') FROM notifications WHERE title = 'first'", insert(5, "third"))
	b := c.collectBatch(2)
	if len(b.Entries) != 2 || b.Entries[0].Change+b.Entries[1].Change != store.ChangeUpdated {
		t.Errorf("what was written as soon as migrate had run, with a change: %+v", b.Entries)
	}
	c.sql("INSERT INTO notification_gateway.due VALUES ((SELECT id FROM notifications WHERE title = 'first'), '5', now()); SELECT notification_gateway.ring()")
	third := c.collectBatch(1).Cursor // the due one
	if got := c.replayed(second, third); !reflect.DeepEqual(got, []string{"third", "first"}) {
		t.Errorf("after migrate: got %v", got)
	}
	c.reconnect()
	c.sql("%s", insert(5, "fourth"))
	b = c.collectBatch(1)
	if got := c.titles(b.Entries); !reflect.DeepEqual(got, []string{"fourth"}) || b.Reset != "" {
		t.Errorf("connected again: got %v, reset %q", got, b.Reset)
	}
	if got := c.replayed(third, b.Cursor); !reflect.DeepEqual(got, []string{"fourth"}) {
		t.Errorf("from before migrate, in the same life: got %v", got)
	}
	if got := c.replayed(first, b.Cursor); !containsAll(got, []string{"second", "third", "first", "fourth"}) {
		t.Errorf("from a life of before migrate: got %v", got)
	}
}

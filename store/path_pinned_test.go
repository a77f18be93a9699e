package store_test

import (
	"slices"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// A role that may create in schema public made a function that fitted a call of
// ours better than Postgres's own, which then ran with the rights of the
// gateway, or of the superuser who ran gateway check.
func TestNobodyElsesFunctionsAreCalled(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.Database(t))
	c.sql("%s; INSERT INTO employees (id, first_name, last_name, email) VALUES (5, 'a', 'b', 'c@d'); INSERT INTO auth_user (id, username) VALUES (1, 'c@d')", sql.ReferenceCRM)
	traps := storetest.PlantTraps(t, c.url)
	none := func(after string) {
		t.Helper()
		if what := traps.Sprung(t); what != "" {
			t.Errorf("%s called a stranger's %s", after, what)
		}
	}
	role := storetest.Role(t, c.url, "trapped")
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: sql.MappingReferenceCRM, GrantTo: "gateway_test_trapped"}); err != nil {
		t.Fatal(err)
	}
	none("migrate")
	options := schema.AttachOptions{Table: "notifications", UserColumns: []string{"user_id"}, IDColumn: "id"}
	if _, err := schema.Attach(t.Context(), c.url, options); err != nil {
		t.Fatal(err)
	}
	none("attach")
	c.make(store.Config{URL: role, Recipients: store.RecipientLookup})
	c.run(nil)
	first := c.next().Cursor
	none("the feed")
	c.sql("%s", insert(5, "seen"))
	none("capture")
	batch := c.collectBatch(1)
	if got := c.titles(batch.Entries); !slices.Equal(got, []string{"seen"}) {
		t.Errorf("got %v", got)
	}
	none("load")
	if _, err := c.store.Recipient(t.Context(), "1"); err != nil {
		t.Error(err)
	}
	none("a recipient")
	c.unread("5", 10)
	none("unread")
	c.replayed(first, batch.Cursor)
	none("replay")
	c.prune(3600, 10)
	none("prune")
	if _, err := store.FindRecipient(t.Context(), role, store.RecipientLookup, "1"); err != nil {
		t.Error(err)
	}
	none("check --token")
	for _, url := range []string{c.url, role} {
		for _, f := range schema.Check(t.Context(), schema.CheckOptions{URL: url, Lookup: true}) {
			none("check " + f.Name)
			if !f.OK {
				t.Errorf("check says %+v", f)
			}
		}
	}
	none("check")
	if _, err := schema.Detach(t.Context(), c.url, "public.notifications"); err != nil {
		t.Error(err)
	}
	none("detach")
}

package store_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// The mapping that sql/README.md shows must work as it stands there: quoted
// names, another schema, UUIDs.
func TestREADMEMapping(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../sql/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```sql\n")
	mapping, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("sql/README.md has no mapping")
	}
	c := crmAt(t, storetest.Database(t))
	c.sql(`CREATE SCHEMA "Crm"; CREATE TABLE "Crm"."Notification" ("Id" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "UserId" uuid NOT NULL,
		"Kind" text NOT NULL, "Title" text, "CreatedAt" timestamptz NOT NULL DEFAULT now(), "Read" boolean NOT NULL DEFAULT false)`)
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: mapping}); err != nil {
		t.Fatal(err)
	}
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: `"Crm"."Notification"`, UserColumns: []string{"UserId"}, IDColumn: "Id"}); err != nil {
		t.Fatal(err)
	}
	c.open(store.Config{})
	const user = "11111111-1111-4111-8111-111111111111"
	c.sql(`INSERT INTO "Crm"."Notification" ("UserId", "Kind", "Title") VALUES ('%s', 'x', 'mapped')`, user)
	entries := c.collect(1)
	if got := c.titles(entries); !reflect.DeepEqual(got, []string{"mapped"}) || entries[0].UserKey != user {
		t.Errorf("got %v for %s", got, entries[0].UserKey)
	}
	if unread, _ := c.unread(user, 10); !reflect.DeepEqual(unread, []string{"mapped"}) {
		t.Errorf("unread: %v", unread)
	}
}

package store_test

import (
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// A key whose type is a domain was compared as a text: the UUID of a token in
// capitals named nobody, and 0x5 was somebody.
func TestDomainsAreWhatTheyAreMadeOf(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.Database(t))
	c.sql(`CREATE DOMAIN person AS uuid; CREATE DOMAIN recipient AS person; CREATE DOMAIN number AS bigint;
		CREATE TABLE note (id number, owner recipient, title text); CREATE TABLE login (id number, owner recipient)`)
	mapping := `CREATE VIEW notification_gateway.feed AS SELECT id, owner AS user_key, json_build_object('title', title) AS data, now() AS created_at, false AS is_read FROM public.note;
		CREATE VIEW notification_gateway.identity AS SELECT id AS subject, owner AS user_key FROM public.login`
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: mapping}); err != nil {
		t.Fatal(err)
	}
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"owner"}, IDColumn: "id"}); err != nil {
		t.Fatal(err)
	}
	const key = "aaaaaaaa-1111-4111-8111-111111111111"
	c.sql("INSERT INTO login VALUES (5, '%s')", key)
	for subject, known := range map[string]bool{"5": true, "0x5": false, "+5": true} {
		r, err := store.FindRecipient(t.Context(), c.url, store.RecipientLookup, subject)
		if (err == nil) != known || known && r.UserKey != key {
			t.Errorf("%s is %+v, %v", subject, r, err)
		}
	}
	if r, err := store.FindRecipient(t.Context(), c.url, store.RecipientClaim, "AAAAAAAA111141118111111111111111"); err != nil || r.UserKey != key {
		t.Errorf("the claim is %+v, %v", r, err)
	}
	c.open(store.Config{})
	c.sql("INSERT INTO note VALUES (1, '%s', 'of a domain')", key)
	if got := c.titles(c.collect(1)); got[0] != "of a domain" {
		t.Errorf("got %v", got)
	}
}

package store_test

import (
	"reflect"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// The view may give further keys in a column of its own, and need not. What is
// null or empty in it is no key, and a change of it is noticed.
func TestIdentityGivesFurtherKeys(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql(`CREATE TABLE logins (subject text PRIMARY KEY, user_key text, also text[]);
		INSERT INTO logins VALUES ('ann', '5', '{team,NULL,"","a b"}'), ('bob', '7', NULL);
		DROP VIEW notification_gateway.identity; CREATE VIEW notification_gateway.identity AS SELECT * FROM public.logins;
		ALTER VIEW notification_gateway.identity OWNER TO notification_gateway_owner; GRANT SELECT ON logins TO notification_gateway_owner`)
	cache := store.NewRecipientCache(c.store)
	var all []store.Recipient
	for subject, want := range map[string][]string{"ann": {"team", "a b"}, "bob": nil} {
		r, err := cache.Recipient(t.Context(), subject)
		if err != nil || !reflect.DeepEqual(r.AlsoKeys(), want) {
			t.Errorf("%s has %q, %v, want %q", subject, r.AlsoKeys(), err, want)
		}
		all = append(all, r)
	}
	if inactive, changed, err := cache.Check(t.Context(), all); len(inactive)+len(changed) > 0 || err != nil {
		t.Errorf("%v, %v and %v of nothing new", inactive, changed, err)
	}
	c.sql("UPDATE logins SET also = '{team}' WHERE subject = 'bob'")
	if inactive, changed, err := cache.Check(t.Context(), all); len(inactive) > 0 || len(changed) != 1 || changed[0].Subject != "bob" || err != nil {
		t.Errorf("%v, %v and %v of somebody in another group", inactive, changed, err)
	}
	if r, err := cache.Recipient(t.Context(), "bob"); err != nil || !reflect.DeepEqual(r.AlsoKeys(), []string{"team"}) {
		t.Errorf("bob has %q afterwards, %v", r.AlsoKeys(), err)
	}
	c.sql("DROP VIEW notification_gateway.identity; CREATE VIEW notification_gateway.identity AS SELECT subject, user_key, 'no array' AS also FROM public.logins; ALTER VIEW notification_gateway.identity OWNER TO notification_gateway_owner")
	if r, err := c.store.Recipient(t.Context(), "ann"); err == nil {
		t.Errorf("a column that is no array gives %+v", r)
	}
}

package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// The pool connects inside any statement, and its error shows user, host and
// database: every error of the store ends in a log.
func TestErrorsDoNotShowTheConnectionString(t *testing.T) {
	t.Parallel()
	c, server := own(t)
	c.open(store.Config{Recipients: store.RecipientLookup})
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func() error{
		"a row": func() error { _, err := c.store.Recipient(t.Context(), "5"); return err },
		"rows":  func() error { _, err := c.store.Unread(t.Context(), "5", 10); return err },
	} {
		err := fmt.Errorf("not asked yet")
		for !strings.Contains(err.Error(), "refused") { // connections of the pool have to break first
			if err = ask(); err == nil {
				t.Fatal("a server that is gone has answered")
			}
		}
		if strings.Contains(err.Error(), "user=") || strings.Contains(err.Error(), "database=") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a role has for its applications must not hold for the gateway: dates that
// pgx cannot read kept replays from ever coming, and a limit on temporary files
// the feed from ever starting.
func TestSettingsOfTheRole(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.CRM(t))
	odd := storetest.Role(t, c.url, "odd")
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{GrantTo: "gateway_test_odd"}); err != nil {
		t.Fatal(err)
	}
	c.sql("ALTER ROLE gateway_test_odd SET datestyle = 'German'; ALTER ROLE gateway_test_odd SET work_mem = '64kB'; ALTER ROLE gateway_test_odd SET temp_file_limit = 0")
	c.open(store.Config{URL: odd})
	c.sql("%s", insert(5, "all the same"))
	if got := c.titles(c.collect(1)); got[0] != "all the same" {
		t.Errorf("got %v", got)
	}
}

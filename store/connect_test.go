package store_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// The pool connects inside any statement, and its error shows user, host and
// database: every error of the store ends in a log.
func TestErrorsDoNotShowTheConnectionString(t *testing.T) {
	t.Parallel()
	c, server := own(t)
	c.open(store.Config{Lookup: true})
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
	odd := c.as("odd")
	if _, err := store.Migrate(t.Context(), c.url, store.MigrateOptions{GrantTo: "gateway_test_odd"}); err != nil {
		t.Fatal(err)
	}
	c.sql("ALTER ROLE gateway_test_odd SET datestyle = 'German'; ALTER ROLE gateway_test_odd SET work_mem = '64kB'; ALTER ROLE gateway_test_odd SET temp_file_limit = 0")
	if f := c.findingOf(store.Config{URL: odd}, "clock"); !f.OK {
		t.Errorf("check says %+v", f)
	}
	c.open(store.Config{URL: odd})
	c.sql("%s", insert(5, "all the same"))
	if got := c.titles(c.collect(1)); got[0] != "all the same" {
		t.Errorf("got %v", got)
	}
}

// A reason that stands four times, on as many lines of a log, hides the one
// that matters, as does one that the next try has mended.
func TestConnectErrorsSayEachReasonOnce(t *testing.T) {
	t.Parallel()
	missing, err := url.Parse(storetest.Server(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	host := missing.Host
	missing.Path, missing.RawQuery = "/nowhere", "sslmode=prefer"
	for address, want := range map[string]string{
		"postgres://u@127.0.0.1:1,127.0.0.2:1/x": "connect: 127.0.0.1:1, 127.0.0.2:1: dial error: dial tcp: connect: connection refused",
		"postgres://u@no..where/x":               "connect: lookup no..where",
		"postgres://u@/x?host=/nowhere":          "connect: /nowhere/.s.PGSQL.5432: dial error: dial unix: connect: no such file or directory",
		missing.String():                         "connect: " + host + `: server error: FATAL: database "nowhere" does not exist (SQLSTATE 3D000)`,
	} {
		got := store.Check(t.Context(), store.Config{URL: address})[0].Detail
		if !strings.HasPrefix(got, want) || strings.Contains(got, "\n") || strings.Count(got, "lookup") > 1 {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

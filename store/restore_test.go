package store_test

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// A restored dump brings the log with transaction IDs of another server, which
// mean nothing there: rows that the restored log calls seen would be hidden.
func TestRestoredDump(t *testing.T) {
	t.Parallel()
	c, _ := own(t)
	c.open(store.Config{})
	c.sql("%s", insert(5, "before the dump"))
	position := c.collectBatch(1).Cursor
	there := c.restored()
	if there.logged() == 0 {
		t.Error("the log was not restored")
	}
	there.open(store.Config{})
	if _, err := there.store.ParseCursor(position.String()); err == nil {
		t.Error("a position of the old server is believed")
	}
	if n := there.logged(); n != 0 {
		t.Errorf("%d rows of the old server's log are left", n)
	}
	there.sql("%s", insert(5, "after the restore"))
	if got := there.titles(there.collect(1)); !reflect.DeepEqual(got, []string{"after the restore"}) {
		t.Errorf("got %v", got)
	}
}

// A dump that is loaded again on the server that it came from brings installation
// and incarnation along. Nobody was told to reload, and rows that took the IDs of
// delivered ones looked delivered.
func TestRestoreOnTheSameServer(t *testing.T) {
	t.Parallel()
	for name, restore := range map[string]func(c *crm){
		"in another database": func(c *crm) {
			admin := c.connectTo(strings.Replace(c.url, "/crm?", "/postgres?", 1))
			if err := c.conn.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			// A template is copied with all its rows, those of unlogged tables too.
			c.on(admin, "ALTER DATABASE crm ALLOW_CONNECTIONS false")
			c.on(admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'crm'")
			c.on(admin, "CREATE DATABASE copy TEMPLATE crm")
			c.on(admin, "DROP DATABASE crm WITH (FORCE)")
			c.on(admin, "ALTER DATABASE copy RENAME TO crm")
			c.on(admin, "ALTER DATABASE crm ALLOW_CONNECTIONS true")
			c.conn = c.connect()
		},
		"in the same database": func(c *crm) {
			c.sql(`BEGIN; ALTER TABLE notification_gateway.log RENAME TO old; ALTER TABLE notification_gateway.change ALTER position DROP DEFAULT; ALTER TABLE notification_gateway.old ALTER position DROP IDENTITY;
				CREATE TABLE notification_gateway.log (LIKE notification_gateway.old INCLUDING ALL);
				ALTER TABLE notification_gateway.log OWNER TO notification_gateway_owner, ALTER position ADD GENERATED ALWAYS AS IDENTITY;
				INSERT INTO notification_gateway.log (xid, inserted_at, user_key, item_id) SELECT xid, inserted_at, user_key, item_id FROM notification_gateway.old;
				DROP TABLE notification_gateway.old; COMMIT`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := own(t)
			c.open(store.Config{})
			c.sql("%s", insert(5, "before the restore"))
			position := c.collectBatch(1).Cursor
			restore(c)
			eventually(t, "a position of before the restore is foreign", func() bool {
				_, err := c.store.ParseCursor(position.String())
				var reset *store.ResetError
				return errors.As(err, &reset) && reset.Reason == store.ResetForeign
			})
			if n := c.logged(); n != 0 {
				t.Errorf("%d rows of the restored log are left", n)
			}
		})
	}
}

// clients finds pg_dump and psql of a major version: pg_dump refuses a newer
// server, and writes for an older psql what that does not understand.
func clients(major int) (pgDump, psql string) {
	for _, dir := range []string{fmt.Sprintf("/usr/lib/postgresql/%d/bin", major), ""} {
		pgDump, err1 := exec.LookPath(filepath.Join(dir, "pg_dump"))
		psql, err2 := exec.LookPath(filepath.Join(dir, "psql"))
		if err1 != nil || err2 != nil {
			continue
		}
		version, err := exec.Command(pgDump, "--version").Output()
		if err == nil && strings.Contains(string(version), fmt.Sprintf(" %d.", major)) {
			return pgDump, psql
		}
	}
	return "", ""
}

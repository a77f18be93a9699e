package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
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
			for { // until the feed has connected again
				_, err := c.store.ParseCursor(position.String())
				var reset *store.ResetError
				if errors.As(err, &reset) && reset.Reason == store.ResetForeign {
					break
				}
				if c.Context().Err() != nil {
					t.Fatalf("a position of before the restore is believed: %v", err)
				}
				c.sql("SELECT pg_sleep(0.02)")
			}
			if n := c.logged(); n != 0 {
				t.Errorf("%d rows of the restored log are left", n)
			}
		})
	}
}

// restored dumps the database and restores it on another server. Where there
// is no pg_dump of the server's version, it copies what a dump would bring.
func (c *crm) restored() *crm {
	c.Helper()
	var major int
	if err := c.conn.QueryRow(c.Context(), "SELECT current_setting('server_version_num')::int / 10000").Scan(&major); err != nil {
		c.Fatal(err)
	}
	pgDump, psql := clients(major)
	if pgDump == "" {
		c.Logf("no pg_dump %d is here: the tables are copied one by one", major)
		return c.copied()
	}
	dump, err := exec.CommandContext(c.Context(), pgDump, "--no-owner", c.url).Output()
	if err != nil {
		c.Fatal(err)
	}
	storetest.CRM(c.T) // so that the server has the role, which belongs to no database
	there := &crm{T: c.T, url: storetest.Database(c.T)}
	restore := exec.CommandContext(c.Context(), psql, "-q", "-v", "ON_ERROR_STOP=1", there.url)
	restore.Stdin = bytes.NewReader(dump)
	if out, err := restore.CombinedOutput(); err != nil {
		c.Fatalf("%v: %s", err, out)
	}
	there.conn = there.connect()
	return there
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

// copied brings the rows to another server without pg_dump.
func (c *crm) copied() *crm {
	c.Helper()
	there := &crm{T: c.T, url: storetest.CRM(c.T)}
	there.conn = there.connect()
	for _, table := range []string{"public.notifications", "notification_gateway.installation", "notification_gateway.incarnation", "notification_gateway.horizon", "notification_gateway.log"} {
		there.sql("DELETE FROM %s", table) // of the log, also what capturing the rows has written
		var rows bytes.Buffer
		if _, err := c.conn.PgConn().CopyTo(c.Context(), &rows, "COPY "+table+" TO STDOUT"); err != nil {
			c.Fatal(err)
		}
		if _, err := there.conn.PgConn().CopyFrom(c.Context(), &rows, "COPY "+table+" FROM STDIN"); err != nil {
			c.Fatal(err)
		}
	}
	there.sql("SELECT setval(pg_get_serial_sequence('public.notifications', 'id'), max(id)) FROM notifications")
	return there
}

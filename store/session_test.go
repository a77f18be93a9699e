package store_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// Who has the key of the sessions can be anybody. All replicas need the same one,
// the run-time role gets it through its function alone, and it must stand in no
// dump: those lie about in more places than a database.
func TestSessionKey(t *testing.T) {
	t.Parallel()
	c := setup(t)
	key, err := c.store.SessionKey(t.Context())
	if err != nil || len(key) != 32 {
		t.Fatalf("%d bytes, %v", len(key), err)
	}
	if other, err := c.replica().store.SessionKey(t.Context()); err != nil || !bytes.Equal(key, other) {
		t.Errorf("another replica has another key: %v", err)
	}
	const role = "gateway_test_session"
	as := storetest.Role(t, c.url, "session")
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{GrantTo: role}); err != nil {
		t.Fatal(err)
	}
	conn := c.connectTo(as)
	var got []byte
	if err := conn.QueryRow(t.Context(), "SELECT notification_gateway.session_key()").Scan(&got); err != nil || !bytes.Equal(key, got) {
		t.Errorf("the run-time role, after another migrate: %v", err)
	}
	if err := conn.QueryRow(t.Context(), "SELECT key FROM notification_gateway.session_secret").Scan(&got); err == nil {
		t.Error("the run-time role reads the view itself")
	}
	stranger := c.connectTo(storetest.Role(t, c.url, "stranger"))
	c.sql("GRANT USAGE ON SCHEMA notification_gateway TO gateway_test_stranger")
	if err := stranger.QueryRow(t.Context(), "SELECT notification_gateway.session_key()").Scan(&got); err == nil {
		t.Error("every role gets the key")
	}
	var major int
	if err := c.conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int / 10000").Scan(&major); err != nil {
		t.Fatal(err)
	}
	pgDump, _ := clients(major)
	if pgDump == "" {
		t.Logf("no pg_dump %d is here: the dump is not looked at", major)
		return
	}
	dump, err := exec.CommandContext(t.Context(), pgDump, c.url).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(dump, []byte("MATERIALIZED VIEW notification_gateway.session_secret")) {
		t.Error("the dump does not make the view anew")
	}
	for _, text := range []string{hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key), string(key)} {
		if bytes.Contains(dump, []byte(text)) {
			t.Error("the key stands in a dump")
		}
	}
	there := c.restored()
	there.open(store.Config{})
	if other, err := there.store.SessionKey(t.Context()); err != nil || len(other) != 32 || bytes.Equal(key, other) {
		t.Errorf("after a restore: %d bytes, the same: %t, %v", len(other), bytes.Equal(key, other), err)
	}
}

// A session that was made before disconnect() must not open another stream.
func TestSinceDisconnect(t *testing.T) {
	t.Parallel()
	c := setup(t)
	expect := func(user string, within time.Duration, want bool) {
		t.Helper()
		ago, ok, err := c.store.SinceDisconnect(t.Context(), []string{user, "session:of somebody"}, within)
		if err != nil || ok != want || ok && (ago < 0 || ago > time.Minute) {
			t.Errorf("%s: %v ago, %t, %v, want %t", user, ago, ok, err, want)
		}
	}
	c.sql("%s", insert(5, "a notification"))
	expect("5", time.Hour, false)
	c.sql("SELECT notification_gateway.disconnect('5', 'left')")
	expect("5", time.Hour, true)
	expect("7", time.Hour, false)
	c.sql("SELECT notification_gateway.prune('1 hour', 1)") // notes a horizon, which is younger than the time back
	expect("5", time.Hour, true)
	c.sql("UPDATE notification_gateway.log SET inserted_at = inserted_at - interval '2 hours'")
	expect("5", time.Hour, false)
	c.sql("SELECT notification_gateway.disconnect('*', 'everybody')")
	expect("5", time.Hour, true)
	// A horizon from before the time back bounds what is read, and hides nothing.
	c.sql("UPDATE notification_gateway.horizon SET at = at - interval '2 hours'")
	c.sql("SELECT notification_gateway.disconnect('7', 'left')")
	expect("7", time.Hour, true)
	c.sql("DELETE FROM notification_gateway.log")
	session := strings.Repeat("0a", 16)
	if err := c.store.ChangeSession(t.Context(), session, "5", "signed_out"); err != nil {
		t.Fatal(err)
	}
	expect("5", time.Hour, false)
	expect("session:"+session, time.Hour, true)
}

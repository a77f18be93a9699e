package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// secrets are what nothing that a gateway gives out may hold.
type secrets map[string]string // what it is → the text

// find returns what stands in a text, plainly or URL-encoded.
func (s secrets) find(text string) (found []string) {
	for name, secret := range s {
		for _, spelling := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
			if strings.Contains(text, spelling) {
				found = append(found, name)
				break
			}
		}
	}
	return found
}

// Logs, metrics and profiles go to people and systems that may not read what
// the streams carry, or act as a user: none of it may show a token, a secret,
// a payload or a connection string, whatever goes wrong. The program as it is
// shipped runs here, at its most talkative.
func TestOutputHoldsNoSecret(t *testing.T) {
	database := storetest.CRM(t)
	db := open(t, database)
	const password, title, reason = "pass-word-of-the-test", "title-of-the-test", "reason-of-the-test"
	withPassword, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	withPassword.User = url.UserPassword(withPassword.User.Username(), password)
	environment(t, withPassword.String())
	dir := t.TempDir()
	binary, hidden := filepath.Join(dir, "gateway"), filepath.Join(dir, "secret")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := os.WriteFile(hidden, []byte(testSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	mintWith := func(secret string, claims map[string]any) string {
		if claims["exp"] == nil {
			claims["exp"] = time.Now().Add(time.Hour).Unix()
		}
		token, err := auth.Mint([]byte(secret), claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := mintWith(testSecret, map[string]any{"user_id": 1, "exp": time.Now().Add(time.Hour).Unix(), "n": 1})
	tokens := map[string]string{
		"good token": good, "session cookie": mintWith(testSecret, map[string]any{"user_id": 1, "n": 2}),
		"token of nobody": mintWith(testSecret, map[string]any{"user_id": "nobody-of-the-test"}),
		"expired token":   mintWith(testSecret, map[string]any{"user_id": 1, "exp": 1}),
		"foreign token":   mintWith(otherSecret, map[string]any{"user_id": 1}),
		"malformed token": "malformed-token!of-the-test", "opaque token": "opaque-token-of-the-test",
	}
	hush := secrets{
		"secret": testSecret, "other secret": otherSecret, "password": password, "title": title,
		"connection string": withPassword.String(), "subject": "nobody-of-the-test",
	}
	for name, token := range tokens {
		hush[name] = token
		if parts := strings.Split(token, "."); len(parts) == 3 {
			hush["signature of "+name] = parts[2]
			hush["claims of "+name] = parts[1]
		}
	}
	if err := db.Exec(t.Context(), "INSERT INTO auth_user (id, username) VALUES (1, 'alice@example.com')"); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(binary)
	os.Unsetenv("GATEWAY_JWT_SECRET")
	cmd.Env = append(os.Environ(), "GATEWAY_JWT_SECRET_FILE="+hidden, "GATEWAY_LOG_LEVEL=debug", "GATEWAY_RECIPIENT=lookup", "GATEWAY_RECIPIENT_CHECK=1s")
	log := &logBuffer{found: make(chan [2]string, 1)}
	var stdout bytes.Buffer // read after Wait
	cmd.Stderr, cmd.Stdout = log, &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	g := &instance{log: log}
	select {
	case a := <-log.found:
		g.public, g.admin = a[0], a[1]
	case <-time.After(30 * time.Second):
		t.Fatalf("does not listen: %s", log)
	}
	g.readyz(t, 200)

	var given strings.Builder // every answer but the streams
	ask := func(method, target string, header ...string) int {
		r, err := http.NewRequestWithContext(t.Context(), method, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		resp.Header.Del("Set-Cookie") // the one place where a token belongs
		if resp.StatusCode == http.StatusOK && strings.HasPrefix(target, g.public) {
			return resp.StatusCode // a stream
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&given, resp.StatusCode, resp.Header, string(body))
		return resp.StatusCode
	}
	stream, session := g.public+"/api/notifications/stream/", g.public+"/api/notifications/session/"
	got := map[int]int{}
	for _, token := range tokens {
		got[ask("GET", stream, "Authorization", "Bearer "+token)]++
		got[ask("GET", stream+"?token="+url.QueryEscape(token))]++
		got[ask("GET", stream, "Cookie", "notifications_token="+token)]++
		got[ask("POST", session, "Authorization", "Bearer "+token)]++
		got[ask("GET", stream+"?replay="+url.QueryEscape(token), "Authorization", "Bearer "+token)]++
		got[ask("GET", g.public+"/"+url.PathEscape(token)+"?x="+url.QueryEscape(token))]++
		got[ask("GET", stream, "Cookie", "notifications_token="+token, "Origin", "https://evil.example")]++
	}
	for _, status := range []int{200, 204, 400, 401, 403, 404} {
		if got[status] == 0 {
			t.Errorf("nothing was answered with %d: %v", status, got)
		}
	}
	lines := g.stream(t, good, "")
	until(t, lines, "Connected")
	if err := db.Exec(t.Context(), `INSERT INTO notifications (user_id, notification_type, title, message) VALUES (5, 'x', '`+title+`', 'm')`); err != nil {
		t.Fatal(err)
	}
	until(t, lines, title)
	for _, path := range []string{"/metrics", "/readyz", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=1", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1"} {
		ask("GET", g.admin+path)
	}
	if err := os.WriteFile(hidden, []byte(otherSecret[:20]), 0o600); err != nil { // refused, and told
		t.Fatal(err)
	}
	hush["refused secret"] = otherSecret[:20]
	for !strings.Contains(log.String(), "not taken over") {
		until(t, lines, "") // an event or its blank line; the reloader comes round within seconds
		if err := db.Exec(t.Context(), "SELECT pg_sleep(0.2); INSERT INTO notifications (user_id, notification_type, title, message) VALUES (5, 'x', '"+title+"', 'm')"); err != nil {
			t.Fatal(err)
		}
	}
	for _, statement := range []string{
		// A row whose view cannot be read, a recipient that cannot be looked up, a
		// disconnect, and the connections being cut: Postgres's own texts quote values.
		`CREATE FUNCTION notification_gateway.cannot_read(n jsonb) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE 'cannot read %', n USING DETAIL = n::text; END $$`,
		"CREATE OR REPLACE VIEW notification_gateway.feed AS SELECT id, user_id AS user_key, notification_gateway.cannot_read(to_jsonb(n)) AS data, (to_jsonb(n)->>'created_at')::timestamptz AS created_at, false AS is_read FROM notifications n",
		"INSERT INTO notifications (user_id, notification_type, title, message) VALUES (5, 'x', '" + title + "', 'm')",
	} {
		if err := db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	until(t, lines, "unreadable")
	if err := db.Exec(t.Context(), "SELECT notification_gateway.disconnect('5', '"+reason+"')"); err != nil {
		t.Fatal(err)
	}
	until(t, lines, "revoked")
	if err := db.Exec(t.Context(), "DROP VIEW notification_gateway.identity; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'notification_gateway' AND datname = current_database()"); err != nil {
		t.Fatal(err)
	}
	hush["late token"] = mintWith(testSecret, map[string]any{"user_id": 12345})
	if status := ask("GET", stream, "Authorization", "Bearer "+hush["late token"]); status != 503 {
		t.Errorf("with the view gone: %d, want 503", status)
	}
	cmd.Process.Signal(syscall.SIGQUIT) // a crash's own dump: every goroutine with its arguments
	cmd.Wait()
	for where, text := range map[string]string{"the answers": given.String(), "stderr": log.String(), "stdout": stdout.String()} {
		if found := hush.find(text); len(found) > 0 {
			t.Errorf("%s show: %s", where, strings.Join(found, ", "))
		}
	}
	// What the operator gave as the reason of a disconnect is for the operator.
	if !strings.Contains(log.String(), `"reason":"`+reason+`"`) || strings.Contains(given.String(), reason) {
		t.Error("the reason of a disconnect is not in the log, or is in an answer")
	}
	// The check itself: what was done is in there, and each secret would be found.
	for text, want := range map[string]string{given.String(): `"code":"invalid_token"`, log.String(): "goroutine "} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing of %q was collected", want)
		}
	}
	for name, secret := range hush {
		if !strings.Contains(strings.Join(hush.find(log.String()+"x="+url.QueryEscape(secret)+"&"), ","), name) {
			t.Errorf("%s would not be found", name)
		}
	}
}

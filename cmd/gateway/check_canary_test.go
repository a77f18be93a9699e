package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

func runCheck(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	status := run(t.Context(), append([]string{"check"}, args...), &out, &out)
	return status, out.String()
}

// canaryGateway starts a gateway as a run-time role, as which a canary must work. It
// returns the URL of the database for its owner.
func canaryGateway(t *testing.T, role string, variables map[string]string) (*instance, string) {
	t.Helper()
	owner := storetest.CRM(t)
	runtime := storetest.Role(t, owner, role)
	if _, err := schema.Migrate(t.Context(), owner, schema.MigrateOptions{GrantTo: "gateway_test_" + role}); err != nil {
		t.Fatal(err)
	}
	environment(t, runtime)
	for name, value := range variables {
		t.Setenv(name, value)
		if value == "" {
			os.Unsetenv(name)
		}
	}
	g := serveInTest(t)
	g.readyz(t, 200)
	g.log.await(t, "session key read")
	return g, owner
}

// The whole way is tried with a notification that is nobody's: no user's stream may
// show it, and nothing of it may remain.
func TestCanaryTravelsAndDisturbsNobody(t *testing.T) {
	g, owner := canaryGateway(t, "canary", map[string]string{"GATEWAY_RECIPIENT": "auto"})
	db := open(t, owner)
	if err := db.Exec(t.Context(), "INSERT INTO auth_user (id, username) VALUES (50, 'alice@example.com')"); err != nil {
		t.Fatal(err)
	}
	lines := g.stream(t, mint(t, "50"), "")
	until(t, lines, "Connected")
	status, text := runCheck(t, "--canary", "--url", g.public)
	if status != 0 || !strings.Contains(text, "✔ canary") || !strings.Contains(text, "arrived after") || !strings.Contains(text, "by a token of the shared secret") {
		t.Fatalf("status %d:\n%s", status, text)
	}
	var left int
	if err := db.QueryRow(t.Context(), []any{&left}, "SELECT (SELECT count(*) FROM notification_gateway.log) + (SELECT count(*) FROM notification_gateway.change) + (SELECT count(*) FROM notifications)"); err != nil || left != 0 {
		t.Errorf("%d rows remain: %v", left, err)
	}
	insertRow(t, db, "after it")
	for lines.Scan() {
		if line := lines.Text(); strings.Contains(line, "canary") || strings.Contains(line, "reset") {
			t.Errorf("a user's stream says %s", line)
		}
		if strings.Contains(lines.Text(), "after it") {
			break
		}
	}
}

// Without a shared secret nobody can make a token here: all but that is tried.
func TestCanaryWithoutASharedSecret(t *testing.T) {
	crm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer crm.Close()
	g, _ := canaryGateway(t, "canary_login", map[string]string{"GATEWAY_RECIPIENT": "auto", "GATEWAY_JWT_SECRET": "", "GATEWAY_AUTH_URL": crm.URL})
	status, text := runCheck(t, "--canary", "--url", g.public)
	if status != 0 || !strings.Contains(text, "✔ canary") || !strings.Contains(text, "not tried: a token") {
		t.Errorf("status %d:\n%s", status, text)
	}
}

// A canary that does not arrive must say what to do.
func TestCanaryThatDoesNotArrive(t *testing.T) {
	g, owner := canaryGateway(t, "canary_lost", nil)
	at, err := url.Parse(g.public)
	if err != nil {
		t.Fatal(err)
	}
	swallowing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // gives nothing but the head
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer swallowing.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }))
	defer page.Close()
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at) }, FlushInterval: -1})
	defer proxy.Close()
	for _, c := range []struct{ name, url, want string }{
		{"no gateway", "http://127.0.0.1:1", "→ start the gateway, or say where it is"},
		{"a page", page.URL, "→ say where the gateway is"},
		{"a proxy that holds everything back", swallowing.URL, "deploy/proxies"},
		{"another path", g.public + "/elsewhere", "GATEWAY_PATH_PREFIX"},
		{"through a proxy", proxy.URL, "✔ canary"},
	} {
		status, text := runCheck(t, "--canary", "--url", c.url)
		if good := strings.HasPrefix(c.want, "✔"); !strings.Contains(text, c.want) || good != (status == 0) || good != strings.Contains(text, "✔ canary") {
			t.Errorf("%s: status %d, want %q:\n%s", c.name, status, c.want, text)
		}
	}
	t.Setenv("GATEWAY_JWT_SECRET", "another secret with more than 32 bytes in it")
	if status, text := runCheck(t, "--canary", "--url", g.public); status != 1 || !strings.Contains(text, "compare GATEWAY_JWT_SECRET") {
		t.Errorf("with another secret: status %d:\n%s", status, text)
	}
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	db := open(t, owner)
	if err := db.Exec(t.Context(), "REVOKE SELECT ON notification_gateway.feed FROM gateway_test_canary_lost"); err != nil {
		t.Fatal(err)
	}
	if status, text := runCheck(t, "--canary", "--url", g.public); status != 1 || !strings.Contains(text, "✘ canary") || !strings.Contains(text, "did not arrive") {
		t.Errorf("where the gateway cannot read the view: status %d:\n%s", status, text)
	}
	var left int
	if err := db.QueryRow(t.Context(), []any{&left}, "SELECT count(*) FROM notification_gateway.log"); err != nil || left != 0 {
		t.Errorf("%d rows remain: %v", left, err)
	}
	environment(t, owner)
	for _, args := range [][]string{{"--url", g.public}, {"--canary", "--url", "crm.example"}, {"--canary"}} {
		if status, text := runCheck(t, args...); status != 2 {
			t.Errorf("check %v: status %d: %s", args, status, text)
		}
	}
}

// A pass must open a stream for nobody but its canary, and not for long.
func TestPassesAreNoTokens(t *testing.T) {
	var ours, others canaryKey
	now := time.Now()
	if _, ok := ours.read("canary.x-1.y", now); ok {
		t.Error("a pass counts before there is a key")
	}
	ours.set([]byte("one session key"))
	others.set([]byte("another session key"))
	pass := ours.pass("0123456789abcdef0123456789abcdef", now)
	if canary, ok := ours.read(pass, now); !ok || canary != "0123456789abcdef0123456789abcdef" {
		t.Errorf("a pass names %q, %v", canary, ok)
	}
	for name, text := range map[string]string{
		"of another database": others.pass("0123456789abcdef0123456789abcdef", now),
		"changed":             strings.Replace(pass, "canary.0", "canary.1", 1),
		"cut":                 pass[:len(pass)-1],
		"of a day ahead":      ours.pass("0123456789abcdef0123456789abcdef", now.Add(24*time.Hour)),
		"expired":             ours.pass("0123456789abcdef0123456789abcdef", now.Add(-2*canaryLife)),
	} {
		if canary, ok := ours.read(text, now); ok {
			t.Errorf("a pass that is %s names %q", name, canary)
		}
	}
}

package main

import (
	"bytes"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// health runs the command as a container's HEALTHCHECK does.
func healthOf(t *testing.T, adminAddr string, args ...string) (status int, text string) {
	t.Helper()
	t.Setenv("GATEWAY_ADMIN_ADDR", adminAddr)
	var out bytes.Buffer
	status = run(t.Context(), append([]string{"health"}, args...), &out, &out)
	return status, out.String()
}

// An image without a shell has nothing else to ask with. It must tell a process
// that lives from one that can serve, and must not need the rest of the
// configuration.
func TestHealth(t *testing.T) {
	url := storetest.CRM(t)
	db := open(t, url)
	if err := db.Exec(t.Context(), "ALTER SCHEMA notification_gateway RENAME TO not_yet"); err != nil {
		t.Fatal(err)
	}
	environment(t, url)
	g := serveInTest(t)
	t.Setenv("DATABASE_URL", "")
	t.Setenv("GATEWAY_JWT_SECRET_FILE", "/nowhere")
	t.Setenv("GATEWAY_DRAIN", "nonsense")
	address := strings.TrimPrefix(g.admin, "http://")
	if status, text := healthOf(t, address); status != 1 || !strings.Contains(text, "503") || !strings.Contains(text, `"feed"`) || strings.Count(text, "\n") != 1 {
		t.Errorf("before the feed: status %d: %s", status, text)
	}
	if status, text := healthOf(t, address, "--live"); status != 0 || text != "ok\n" {
		t.Errorf("it lives: status %d: %s", status, text)
	}
	if err := db.Exec(t.Context(), "ALTER SCHEMA not_yet RENAME TO notification_gateway"); err != nil {
		t.Fatal(err)
	}
	g.readyz(t, 200)
	if status, text := healthOf(t, address); status != 0 || !strings.Contains(text, `"ready":true`) {
		t.Errorf("it is ready: status %d: %s", status, text)
	}
	g.stop()
	if status, text := healthOf(t, address, "--live"); status != 1 {
		t.Errorf("after its end: status %d: %s", status, text)
	}
}

// The address is one to listen on, such as :9090, which is none to ask; both
// kinds of loopback must be found.
func TestHealthFindsTheListener(t *testing.T) {
	for listen, ask := range map[string][]string{
		":0":          {":", "0.0.0.0:", "[::]:", "127.0.0.1:", "localhost:"},
		"127.0.0.1:0": {":", "0.0.0.0:", "127.0.0.1:"},
		"[::1]:0":     {"[::1]:"},
	} {
		l, err := net.Listen("tcp", listen)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })}
		go server.Serve(l) // it ends with the test
		defer server.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		for _, host := range ask {
			if status, text := healthOf(t, host+port); status != 0 {
				t.Errorf("listening on %s, asked at %s: status %d: %s", listen, host, status, text)
			}
		}
	}
	for _, bad := range []string{"nonsense", ":0", "127.0.0.1"} {
		if status, text := healthOf(t, bad); status != 2 || !strings.Contains(text, "GATEWAY_ADMIN_ADDR") {
			t.Errorf("%s: status %d: %s", bad, status, text)
		}
	}
}

// A gateway that accepts and never answers is not healthy, and whoever asks
// must be told so before Docker gives up on the command.
func TestHealthDoesNotWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	status, text := healthOf(t, l.Addr().String())
	if took := time.Since(began); status != 1 || took > 10*time.Second {
		t.Errorf("status %d after %s: %s", status, took, text)
	}
}

// A pod's admin listener is bound to every address, because the kubelet does
// not come by loopback; then a neighbour must not take profiles.
func TestProfilesOnLoopbackAlone(t *testing.T) {
	for _, c := range []struct {
		addr, pprof string
		want        int
	}{
		{"127.0.0.1:0", "", 200},
		{"[::1]:0", "", 200},
		{":0", "", 404},
		{":0", "true", 200},
	} {
		environment(t, storetest.CRM(t))
		t.Setenv("GATEWAY_ADMIN_ADDR", c.addr)
		if c.pprof != "" {
			t.Setenv("GATEWAY_PPROF", c.pprof)
		}
		g := serveInTest(t)
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/symbol"} {
			resp, err := http.Get(strings.Replace(g.admin, "[::]", "127.0.0.1", 1) + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != c.want {
				t.Errorf("%s on %s with GATEWAY_PPROF=%q: %d, want %d", path, c.addr, c.pprof, resp.StatusCode, c.want)
			}
		}
		g.stop()
	}
}

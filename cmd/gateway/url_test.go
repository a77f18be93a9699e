package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// A parameter that cannot be carried out is a mistake in a variable, for each command
// that reads it, and not a database that is away.
func TestRefusedParametersEndEachCommandWithTwo(t *testing.T) {
	for parameter, name := range map[string]string{"gssencmode=require": "gssencmode", "sslmode=require&sslcrl=/x": "sslcrl", "ssl_min_protocol_version=SSLv3": "ssl_min_protocol_version"} {
		environment(t, "postgres://u:hush@127.0.0.1:1/x?"+parameter)
		for _, args := range [][]string{{"serve"}, {"check"}, {"check", "--canary", "--url", "http://127.0.0.1:1"}, {"migrate"}, {"attach", "x"}, {"detach", "x"}, {"init"}} {
			var stderr bytes.Buffer
			status := run(t.Context(), args, io.Discard, &stderr)
			if text := stderr.String(); status != 2 || !strings.Contains(text, "DATABASE_URL: ") || !strings.Contains(text, name) || strings.Contains(text, "hush") || strings.Count(text, "\n") != 1 {
				t.Errorf("gateway %q with %s: status %d: %s", args, parameter, status, text)
			}
		}
	}
}

// What sizes the pool is the pool's alone: the feed's own connection sent it to the
// server, which refused the session.
func TestPoolParametersSuitTheFeedToo(t *testing.T) {
	url := storetest.CRM(t)
	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	environment(t, url+separator+"pool_max_conns=2&pool_max_conn_lifetime=1h&keepalives_idle=30")
	g := serveInTest(t)
	g.readyz(t, 200)
	lines := g.stream(t, mint(t, "5"), "")
	until(t, lines, "Connected")
	insertRow(t, open(t, url), "through both")
	until(t, lines, "through both")
	for _, args := range [][]string{{"attach", "notifications"}, {"check"}, {"init"}} {
		var out bytes.Buffer
		if status := run(t.Context(), args, &out, &out); status != 0 {
			t.Errorf("gateway %q: status %d:\n%s", args, status, &out)
		}
	}
}

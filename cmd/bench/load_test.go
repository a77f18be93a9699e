package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/report"
	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

func TestMain(m *testing.M) {
	if os.Getenv(swarm.SubprocessVariable) != "" { // a worker or a floor: this binary stands in for the program
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(storetest.Main(m))
}

const testSecret = "0123456789abcdef0123456789abcdef"

// A generator that loses events, or hides that some were lost, measures
// nothing: everything that is inserted must be counted, through a storm too,
// and a reader that never reads must not hold up the others.
func TestLoad(t *testing.T) {
	s := openEnvironment(t)
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	var out, log bytes.Buffer
	code := run(t.Context(), []string{
		"load", "--url", s.Target().URL.String(), "--database-url", s.DatabaseURL, "--streams", "60", "--users", "20", "--slow", "2",
		"--storm", "30", "--rate", "200", "--duration", "2s", "--payload", "100", "--json",
	}, &out, &log)
	if code != 0 {
		t.Fatalf("status %d: %s", code, &log)
	}
	var found report.Results
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		t.Fatal(err)
	}
	values := map[string]report.Result{}
	for _, l := range found.Lines {
		values[l.What] = l
	}
	if l := values["notifications received"]; l.Target != "1200" || l.Met == nil || !*l.Met {
		t.Errorf("notifications received: %+v", l)
	}
	if l := values["streams that came back"]; !strings.HasPrefix(l.Value, "30 ") {
		t.Errorf("streams that came back: %+v", l)
	}
	if _, ok := values["COMMIT acknowledged → row read, median / p99"]; !ok {
		t.Errorf("no latency in %v", values)
	}
}

// Most addresses that an operator can name are behind TLS.
func TestLoadTLS(t *testing.T) {
	b := startStack(t)
	cert, key, err := report.Certificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := openEnvironmentOf(t, b, "GATEWAY_TLS_CERT="+cert, "GATEWAY_TLS_KEY="+key)
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	var out, log bytes.Buffer
	args := []string{
		"load", "--url", "https://" + s.Public + report.StreamPath, "--database-url", s.DatabaseURL, "--streams", "20", "--slow", "2", "--storm", "10", "--rate", "100", "--duration", "1s",
	}
	if code := run(t.Context(), append(args, "--insecure"), &out, &log); code != 0 || !strings.Contains(out.String(), "✔") {
		t.Errorf("status %d: %s%s", code, &out, &log)
	}
	log.Reset()
	if code := run(t.Context(), args, &out, &log); code != 1 || !strings.Contains(log.String(), "certificate") {
		t.Errorf("status %d: %s", code, &log)
	}
}

// A load test that cannot fail proves nothing.
func TestLoadFails(t *testing.T) {
	s := openEnvironment(t)
	t.Setenv("GATEWAY_JWT_SECRET", "")
	otherSecret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(otherSecret, []byte(strings.Repeat("other", 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"wrong token":     {[]string{"--url", s.Target().URL.String(), "--token", "a.b.c"}, "the token was refused"},
		"no token":        {[]string{"--url", s.Target().URL.String()}, "no token was sent: set GATEWAY_JWT_SECRET"},
		"wrong secret":    {[]string{"--url", s.Target().URL.String(), "--secret-file", otherSecret}, "the secret, GATEWAY_JWT_USER_CLAIM"},
		"wrong password":  {[]string{"--url", s.Target().URL.String(), "--database-url", strings.Replace(s.DatabaseURL, "postgres@", "nobody_here:hush@", 1)}, "the CRM's Postgres: "},
		"wrong path":      {[]string{"--url", "http://" + s.Public + "/elsewhere"}, "status 404"},
		"nobody answers":  {[]string{"--url", "http://127.0.0.1:1/"}, "connection refused"},
		"no event stream": {[]string{"--url", "http://" + s.Admin + "/livez"}, "no event stream"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, log bytes.Buffer
			code := run(t.Context(), append([]string{"load", "--streams", "2", "--duration", "1s"}, test.args...), &out, &log)
			if code != 1 || !strings.Contains(log.String(), test.want) || strings.Contains(log.String(), "hush") {
				t.Errorf("status %d: %s", code, &log)
			}
		})
	}
}

// A user that is missing must be named at once, and nothing that was not
// checked may be called good: not after half a minute, below a mark and figures
// that mean nothing.
func TestLoadStopsAtTheFirstError(t *testing.T) {
	s := openEnvironment(t)
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	for what, first := range map[string]int{"a user": report.CRMUsers + 1, "the probe's user": report.CRMUsers} {
		var out, log bytes.Buffer
		began := time.Now()
		code := run(t.Context(), []string{
			"load", "--url", s.Target().URL.String(), "--database-url", s.DatabaseURL, "--streams", "2", "--users", "1",
			"--first-user", strconv.Itoa(first), "--duration", "30s",
		}, &out, &log)
		if code != 1 || strings.Count(log.String(), "Key (user_id)=(") != 1 || strings.Contains(log.String(), "canceled") {
			t.Errorf("%s is missing: status %d: %s", what, code, &log)
		}
		if text := out.String(); time.Since(began) > 15*time.Second || strings.Contains(text, "✔") || strings.Contains(text, "CPU") || !strings.Contains(text, "2 open") {
			t.Errorf("%s is missing: after %s:\n%s", what, time.Since(began), text)
		}
	}
}

// That the server ended streams says nothing without why.
func TestLoadSaysWhyStreamsEnded(t *testing.T) {
	b := startStack(t)
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	cert, key, err := report.Certificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for scheme, env := range map[string][]string{"http": nil, "https": {"GATEWAY_TLS_CERT=" + cert, "GATEWAY_TLS_KEY=" + key}} {
		s := openEnvironmentOf(t, b, append(env, "GATEWAY_MAX_STREAMS_PER_USER=1")...)
		var out, log bytes.Buffer
		code := run(t.Context(), []string{"load", "--insecure", "--url", scheme + "://" + s.Public + report.StreamPath, "--streams", "2", "--users", "1", "--duration", "5s"}, &out, &log)
		if code != 1 || !strings.Contains(log.String(), "with the error event replaced") {
			t.Errorf("%s: status %d: %s", scheme, code, &log)
		}
	}
}

// A mistake must be told from a measurement that failed.
func TestUsage(t *testing.T) {
	t.Setenv("GATEWAY_JWT_SECRET", "")
	for args, want := range map[string]string{
		"nonsense":                             "no command",
		"load":                                 "--url",
		"load --url ":                          "--url",
		"load --url ftp://localhost/":          "--url",
		"load --url http://x/ --streams 0":     "--streams",
		"load --url http://x/ --streams ten":   "streams",
		"load --url http://x/ --users 3":       "--users",
		"load --url http://x/ --storm 101":     "--storm",
		"load --url http://x/ --slow -1":       "--slow",
		"load --url http://x/ --rate 0":        "--rate",
		"load --url http://x/ --token-file no": "--token-file",
		"load --url http://x/ more":            "no argument",
		"report --only memory,nonsense":        "--only",
		"report --scale 2":                     "--scale",
	} {
		var out, log bytes.Buffer
		if code := run(t.Context(), strings.Split(args, " "), &out, &log); code != 2 || !strings.Contains(log.String(), want) {
			t.Errorf("%s: status %d: %s", args, code, &log)
		}
	}
	for _, args := range []string{"-h", "load -h", "report -h"} {
		var out, log bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &log); code != 0 || out.Len() == 0 {
			t.Errorf("%s: status %d: %s", args, code, &log)
		}
	}
}

// openEnvironment is a gateway with a database of its own.
func openEnvironment(t *testing.T) *report.Environment {
	t.Helper()
	return openEnvironmentOf(t, startStack(t))
}

func startStack(t *testing.T) *report.Stack {
	t.Helper()
	b, err := report.StartStack(t.Context(), testSecret, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func openEnvironmentOf(t *testing.T, b *report.Stack, env ...string) *report.Environment {
	t.Helper()
	s, err := b.Open(t.Context(), env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

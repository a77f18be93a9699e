package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

func TestMain(m *testing.M) {
	if task := os.Getenv(hostileVariable); task != "" {
		hostile(task)
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait most of the time
		panic(err)
	}
	os.Exit(storetest.Main(m))
}

const testSecret = "a secret of the tests with 32 bytes and more"

// environment sets what a gateway needs, and clears what is set outside.
func environment(t testing.TB, database string) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "GATEWAY_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	for name, value := range map[string]string{
		"DATABASE_URL": database, "GATEWAY_JWT_SECRET": testSecret, "GATEWAY_RECIPIENT": "claim", "GATEWAY_ADDR": "127.0.0.1:0",
		"GATEWAY_ADMIN_ADDR": "127.0.0.1:0", "GATEWAY_DRAIN": "1s",
	} {
		t.Setenv(name, value)
	}
}

// instance is a gateway that runs inside the test.
type instance struct {
	public, admin string // base URLs
	stop          func() int
	log           *logBuffer
}

// logBuffer is stderr: it tells the addresses, and keeps everything.
type logBuffer struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{}  // closed by the next Write; nil when nobody waits; guarded by mu
	found chan [2]string // capacity 1: sent once
	addrs [2]string
}

// await waits until the log holds a text.
func (l *logBuffer) await(t testing.TB, text string) {
	t.Helper()
	for deadline := time.After(30 * time.Second); ; {
		l.mu.Lock()
		found := strings.Contains(l.text.String(), text)
		if l.wrote == nil {
			l.wrote = make(chan struct{})
		}
		wrote := l.wrote
		l.mu.Unlock()
		if found {
			return
		}
		select {
		case <-wrote:
		case <-deadline:
			t.Fatalf("the log never says %q: %s", text, l)
		}
	}
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	if l.wrote != nil {
		close(l.wrote)
		l.wrote = nil
	}
	for text := range bytes.Lines(b) { // a process's pipe may bring several
		var line struct{ Msg, Addr string }
		if json.Unmarshal(text, &line) != nil {
			continue
		}
		switch line.Msg {
		case "listening":
			l.addrs[0] = "http://" + line.Addr
		case "admin listening":
			l.addrs[1] = "http://" + line.Addr
			l.found <- l.addrs
		}
	}
	return len(b), nil
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func serveInTest(t testing.TB) *instance {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := &logBuffer{found: make(chan [2]string, 1)}
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, nil, io.Discard, log) }()
	select {
	case a := <-log.found:
		stop := sync.OnceValue(func() int { cancel(); return <-ended })
		t.Cleanup(func() { stop() })
		return &instance{a[0], a[1], stop, log}
	case status := <-ended:
		cancel()
		t.Fatalf("ended with %d: %s", status, log)
	case <-time.After(30 * time.Second):
		cancel()
		t.Fatalf("does not listen: %s", log)
	}
	return nil
}

// readyz waits until the answer is what is wanted, and returns its body.
func (i *instance) readyz(t testing.TB, want int) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		resp, err := http.Get(i.admin + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == want {
			return string(body)
		}
		if time.Now().After(deadline) {
			t.Fatalf("readyz is %d %s, want %d", resp.StatusCode, body, want)
		}
	}
}

func mint(t testing.TB, user string) string {
	t.Helper()
	var out, stderr bytes.Buffer
	if status := run(t.Context(), []string{"token", "--user", user}, &out, &stderr); status != 0 {
		t.Fatalf("token: %d %s", status, &stderr)
	}
	return strings.TrimSpace(out.String())
}

func (i *instance) stream(t testing.TB, token, lastEventID string) *bufio.Scanner {
	t.Helper()
	return i.streamUntil(t.Context(), t, token, lastEventID)
}

// streamUntil opens a stream that is cut off when ctx ends.
func (i *instance) streamUntil(ctx context.Context, t testing.TB, token, lastEventID string) *bufio.Scanner {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.public+"/api/notifications/stream/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	return bufio.NewScanner(resp.Body)
}

// until reads lines to one that holds text, and returns the last id before it.
func until(t testing.TB, lines *bufio.Scanner, text string) (id string) {
	t.Helper()
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			id = rest
		}
		if strings.Contains(lines.Text(), text) {
			return id
		}
	}
	t.Fatalf("the stream ended before %q", text)
	return ""
}

func insertRow(t testing.TB, db *throwaway.DB, title string) {
	t.Helper()
	if err := db.Exec(context.Background(), "INSERT INTO notifications (user_id, notification_type, title, message) VALUES (5, 'x', $1, 'm')", title); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, url string) *throwaway.DB {
	t.Helper()
	db, err := throwaway.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// The main job: a row inserted into the CRM reaches its user, is resumed at
// another replica after this one has drained, and no secret is logged.
func TestRowReachesItsUserAndResumesAtAnotherReplica(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	db := open(t, url)
	one := serveInTest(t)
	one.readyz(t, 200)
	token := mint(t, "5")
	lines := one.stream(t, token, "")
	until(t, lines, `"user":5`)
	insertRow(t, db, "first")
	id := until(t, lines, `"title":"first"`)
	stopped := make(chan int, 1)
	go func() { stopped <- one.stop() }()
	until(t, lines, `"code":"draining"`)
	if status := <-stopped; status != 0 {
		t.Errorf("exit status %d after a drain", status)
	}
	insertRow(t, db, "second")
	two := serveInTest(t)
	two.readyz(t, 200)
	lines = two.stream(t, token, id)
	until(t, lines, `"title":"second"`)
	resp, err := http.Get(two.public + "/api/notifications/stream/?token=" + token + "x")
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a spoilt token: %v, %v", resp, err)
	}
	resp.Body.Close()
	for _, log := range []*logBuffer{one.log, two.log} {
		for _, secret := range []string{token, testSecret, "second"} {
			if strings.Contains(log.String(), secret) {
				t.Errorf("the log shows %.20s…", secret)
			}
		}
	}
}

// It must start while Postgres is down, say so, and become ready when it comes.
func TestStartsBeforePostgres(t *testing.T) {
	url := storetest.CRM(t)
	db := open(t, url)
	if err := db.Exec(t.Context(), "ALTER SCHEMA notification_gateway RENAME TO not_yet"); err != nil {
		t.Fatal(err)
	}
	environment(t, url)
	g := serveInTest(t)
	if body := g.readyz(t, 503); !strings.Contains(body, "feed") {
		t.Errorf("readyz says %s", body)
	}
	resp, err := http.Get(g.public + "/api/notifications/stream/?token=" + mint(t, "5"))
	if err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a stream before the feed: %v, %v", resp, err)
	}
	resp.Body.Close()
	if err := db.Exec(t.Context(), "ALTER SCHEMA not_yet RENAME TO notification_gateway"); err != nil {
		t.Fatal(err)
	}
	g.readyz(t, 200)
	until(t, g.stream(t, mint(t, "5"), ""), "Connected")
	for path, want := range map[string]string{"/livez": "ok", "/metrics": "notification_gateway_feed_connected 1", "/debug/pprof/": "goroutine"} {
		resp, err := http.Get(g.admin + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(body), want) {
			t.Errorf("%s does not show %q", path, want)
		}
	}
}

// Dashboards depend on these names, and people who make one on the page's tables.
func TestMetricNames(t *testing.T) {
	environment(t, storetest.CRM(t))
	g := serveInTest(t)
	g.readyz(t, 200)
	body := g.scrape(t)
	for _, name := range strings.Fields(`streams streams_opened_total streams_closed_total{reason= auth_failures_total{reason= requests_refused_total{code= resets_total{reason=
		events_sent_total{event= bytes_sent_total delivery_lag_seconds_count feed_batch_rows_count feed_poll_seconds_count
		feed_wakes_total{source= feed_connected feed_reconnects_total replayed_total slow_consumers_total log_rows_pruned_total build_info{`) {
		if !strings.Contains(body, "\nnotification_gateway_"+name) {
			t.Errorf("there is no metric %s", name)
		}
	}
	page, err := os.ReadFile("../../deploy/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(body) {
		rest, ours := strings.CutPrefix(line, "# TYPE notification_gateway_")
		if name, _, _ := strings.Cut(rest, " "); ours && !strings.Contains(string(page), "`"+name) {
			t.Errorf("deploy/operations.md has no metric %s", name)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(body, name) {
			t.Errorf("there is no metric %s", name)
		}
	}
}

// A bad value must end the start with exit 2 and a line that names the
// variable, and never shows the value.
func TestBadConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(file, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, value string }{
		{"DATABASE_URL", ""},
		{"DATABASE_URL", "postgres://user:hush@host:port/x"},
		{"DATABASE_URL", "mysql://user:hush@host/x"},
		{"DATABASE_URL", "postgres://user:hush@host/x?sslmode=require&sslcrl=/x"},
		{"DATABASE_URL", "postgres://user:hush@host/x?gssencmode=require"},
		{"GATEWAY_LISTEN_DATABASE_URL", "postgres://user:hush@host/x?gssencmode=require"},
		{"GATEWAY_LISTEN_DATABASE_URL", "postgres://user:hush@host:port/x"},
		{"GATEWAY_JWT_SECRET", ""},
		{"GATEWAY_JWT_SECRET", "hush"},
		{"GATEWAY_JWT_SECRET", testSecret + ",hush"},
		{"GATEWAY_JWT_SECRET_FILE", "/nowhere/hush"},
		{"GATEWAY_JWKS_URL", "hush"},
		{"GATEWAY_JWKS_URL_FILE", file},
		{"GATEWAY_JWT_SECRET", "-----BEGIN PUBLIC KEY-----\nhush\n-----END PUBLIC KEY-----"},
		{"GATEWAY_JWT_SECRET", `{"kty":"RSA","n":"hush","e":"AQAB"}`},
		{"GATEWAY_JWT_SECRET", `"` + testSecret + `"`},
		{"GATEWAY_JWT_REQUIRE_EXP", "hush"},
		{"GATEWAY_JWKS_FILE", "/nowhere/hush"},
		{"GATEWAY_JWKS_FILE", file},
		{"GATEWAY_JWKS_FILE", "-----BEGIN PUBLIC KEY-----\nhush"},
		{"GATEWAY_AUTH_URL", "http://203.0.113.7/hush"},
		{"GATEWAY_AUTH_URL", "https://user:hush@crm.example.com/"},
		{"GATEWAY_JWT_USER_CLAIM", "a,,hush"},
		{"GATEWAY_JWT_GROUPS_CLAIM", "/hush~2"},
		{"GATEWAY_AUTH_FIELD", ","},
		{"GATEWAY_JWT_LEEWAY", "hush"},
		{"GATEWAY_JWT_LEEWAY", "-1s"},
		{"GATEWAY_RECIPIENT", "hush"},
		{"GATEWAY_RECIPIENT_CHECK", "hush"},
		{"GATEWAY_RECIPIENT_CHECK", "-1s"},
		{"GATEWAY_COOKIE", "hush;x"},
		{"GATEWAY_COOKIE_INSECURE", "hush"},
		{"GATEWAY_ALLOWED_ORIGINS", "*"},
		{"GATEWAY_ALLOWED_ORIGINS", "https://*.example.com"},
		{"GATEWAY_ALLOWED_ORIGINS", "https://hush/path"},
		{"GATEWAY_PATH_PREFIX", "hush"},
		{"GATEWAY_PING_INTERVAL", "0"},
		{"GATEWAY_PING_INTERVAL", "100000h"},
		{"GATEWAY_ADDR", "foo"},
		{"GATEWAY_ADMIN_ADDR", ":99999"},
		{"GATEWAY_MAX_STREAMS", "hush"},
		{"GATEWAY_MAX_STREAMS", "-1"},
		{"GATEWAY_MAX_STREAMS_PER_USER", "0"},
		{"GATEWAY_CONNECTS_PER_MINUTE", "-1"},
		{"GATEWAY_TRUSTED_PROXIES", "hush"},
		{"GATEWAY_STREAM_BUFFER", "1"},
		{"GATEWAY_REPLAY_LIMIT", "0"},
		{"GATEWAY_DRAIN", "-1s"},
		{"GATEWAY_RETENTION", "1ms"},
		{"GATEWAY_TLS_CERT", "/nowhere/hush"},
		{"GATEWAY_LOG_LEVEL", "hush"},
		{"GATEWAY_LOG_FORMAT", "hush"},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			environment(t, "postgres://postgres@127.0.0.1:1/x")
			if base, ok := strings.CutSuffix(c.name, "_FILE"); ok {
				os.Unsetenv(base)
			}
			t.Setenv(c.name, c.value)
			var stderr bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			status := run(ctx, []string{"serve"}, io.Discard, &stderr)
			text := stderr.String()
			if lines := strings.Split(strings.TrimSpace(text), "\n"); status != 2 || !strings.Contains(lines[len(lines)-1], strings.TrimSuffix(c.name, "_FILE")) {
				t.Errorf("status %d: %s", status, text)
			}
			if strings.Contains(text, "hush") && !strings.HasPrefix(c.value, "/nowhere") {
				t.Errorf("the value is shown: %s", text)
			}
		})
	}
}

// Templates and compose files write NAME= where they have no value. Taken as a
// value, an empty address opened the admin listener on every interface.
func TestEmptyIsUnset(t *testing.T) {
	kind := reflect.TypeFor[config]()
	for name := range knownVariables() {
		for _, empty := range []string{"", " "} {
			environment(t, "postgres://postgres@127.0.0.1:1/x")
			t.Setenv(name, "")
			os.Unsetenv(name)
			want, err := readConfig()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			t.Setenv(name, empty)
			got, err := readConfig()
			want.empty, got.empty = nil, nil // which check alone asks for
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s=%q is not as if it were unset: %v", name, empty, err)
			}
			for i := range kind.NumField() {
				if tag := kind.Field(i).Tag; tag.Get("envconfig") == name && tag.Get("default") != "" && reflect.ValueOf(got).Field(i).IsZero() && tag.Get("default") != "0" && tag.Get("default") != "false" {
					t.Errorf("%s=%q has not its default", name, empty)
				}
			}
		}
	}
}

// A typing mistake must be told in one line, and -h must answer everywhere.
func TestCommandLine(t *testing.T) {
	environment(t, "postgres://postgres@127.0.0.1:1/x")
	for line, want := range map[string]int{
		"-h": 0, "serve -h": 0, "migrate -h": 0, "attach -h": 0, "detach -h": 0, "check -h": 0, "token -h": 0, "version -h": 0, "version": 0, "--version": 0, "health -h": 0,
		"nonsense": 2, "serve now": 2, "--nonsense": 2, "migrate --nonsense": 2, "migrate --mapping /nowhere": 2, "attach": 2, "attach a b": 2, "token": 2,
		"token --user 5 --ttl -1s": 2, "check --json=maybe": 2, "migrate --print --mapping reference_crm --grant-to x": 0, "attach x": 1, "check": 1,
		"health --alive": 2, "health now": 2, "--version now": 2,
	} {
		var stdout, stderr bytes.Buffer
		if got := run(t.Context(), strings.Fields(line), &stdout, &stderr); got != want {
			t.Errorf("gateway %s: status %d, want %d: %s", line, got, want, &stderr)
		}
		if want == 2 && strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("gateway %s says %q, want one line", line, &stderr)
		}
		if want == 0 && stdout.Len() == 0 {
			t.Errorf("gateway %s says nothing", line)
		}
	}
}

// A shell variable that is not set must not pass for a flag that was left out:
// the token was not looked at, and the check passed.
func TestEmptyArguments(t *testing.T) {
	environment(t, storetest.CRM(t))
	input := os.Stdin
	defer func() { os.Stdin = input }()
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"check", "--token", ""}, `-token: it is empty`},
		{[]string{"check", "--token="}, `-token: it is empty`},
		{[]string{"check", "--token", "-"}, `standard input is empty`},
		{[]string{"migrate", "--mapping", ""}, `-mapping: it is empty`},
		{[]string{"migrate", "--mapping", os.DevNull}, `--mapping /dev/null: the file is empty`},
		{[]string{"migrate", "--grant-to", ""}, `-grant-to: it is empty`},
		{[]string{"attach"}, "takes one argument, got 0"},
		{[]string{"check", "now"}, "takes no arguments, got 1"},
	} {
		var err error
		if os.Stdin, err = os.Open(os.DevNull); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		if status := run(t.Context(), c.args, &stdout, &stderr); status != 2 || !strings.Contains(stderr.String(), c.says) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("gateway %q: status %d, says %q, want %q", c.args, status, &stderr, c.says)
		}
		os.Stdin.Close()
	}
}

// The doctor must find each fault and say how to mend it.
func TestCheck(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	db := open(t, url)
	report := func(args ...string) (int, string) {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), append([]string{"check"}, args...), &stdout, &stderr)
		return status, stdout.String()
	}
	token := mint(t, "5")
	status, text := report("--token", token)
	if status != 0 || strings.Contains(text, "✘") || !strings.Contains(text, "the recipient is 5") || !strings.Contains(text, "1 shared secret\n") || strings.Contains(text, token) {
		t.Errorf("status %d:\n%s", status, text)
	}
	if status, text := report("--token", "x.y.z", "--json"); status != 1 || !strings.Contains(text, "refused: malformed") {
		t.Errorf("status %d:\n%s", status, text)
	}
	if status, text := report("--token", mint(t, "nobody")); status != 1 || !strings.Contains(text, "user_id is nobody") || !strings.Contains(text, "cannot hold") {
		t.Errorf("a user that cannot be: status %d:\n%s", status, text)
	}
	for mend, statement := range map[string]string{
		"gateway attach":  "ALTER TABLE notifications DISABLE TRIGGER notification_gateway_capture",
		"--mapping":       "DROP VIEW notification_gateway.feed",
		"gateway migrate": "DELETE FROM notification_gateway.migration",
	} {
		if err := db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		if status, text := report(); status != 1 || !strings.Contains(text, "✘") || !strings.Contains(text, mend) {
			t.Errorf("after %s: status %d:\n%s", statement, status, text)
		}
	}
}

// A value of another form must be answered with the form, not with a type's name.
func TestBadFormsAreExplained(t *testing.T) {
	for line, want := range map[string]string{
		"GATEWAY_RETENTION=7d serve":               "GATEWAY_RETENTION: must be a duration such as 30s, 5m or 168h",
		"GATEWAY_MAX_STREAMS=5k serve":             "GATEWAY_MAX_STREAMS: must be a whole number such as 1000",
		"GATEWAY_COOKIE_INSECURE=on serve":         "GATEWAY_COOKIE_INSECURE: must be true or false",
		"GATEWAY_ADDR=:0 token --user 5 --ttl -1h": "must be above zero",
		"GATEWAY_ADDR=:0 token --user 5 --ttl 1":   "must be a duration such as 30s, 5m or 168h",
	} {
		environment(t, "postgres://postgres@127.0.0.1:1/x")
		set, args, _ := strings.Cut(line, " ")
		name, value, _ := strings.Cut(set, "=")
		t.Setenv(name, value)
		var stderr bytes.Buffer
		if status := run(t.Context(), strings.Fields(args), io.Discard, &stderr); status != 2 || !strings.HasSuffix(stderr.String(), want+"\n") {
			t.Errorf("%s: status %d: %s", line, status, &stderr)
		}
	}
}

// A misspelt variable must not leave the default standing without a word; what
// others set, and what is ours, must not be warned of.
func TestUnknownVariables(t *testing.T) {
	environment(t, "postgres://postgres@127.0.0.1:1/x")
	for _, name := range []string{"GATEWAY_PINGINTERVAL", "GATEWAY_ADDR_FILE", "GATEWAY_JWKS_URL_FILE", "GATEWAY_PORT_80_TCP", "GATEWAY_SERVICE_HOST", "MY_GATEWAY_X"} {
		t.Setenv(name, "")
	}
	t.Setenv("GATEWAY_LOG_FORMAT", "text")
	t.Setenv("GATEWAY_PINGINTERVAL", "hush")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stderr bytes.Buffer
	run(ctx, nil, io.Discard, &stderr)
	text := stderr.String()
	for _, name := range []string{"GATEWAY_PINGINTERVAL", "GATEWAY_ADDR_FILE"} {
		if strings.Count(text, `msg="unknown variable" variable=`+name+"\n") != 1 {
			t.Errorf("%s is not told of once", name)
		}
	}
	if strings.Count(text, "unknown variable") != 2 || strings.Contains(text, "hush") {
		t.Errorf("it says %s", text)
	}
}

// A file that cannot be read must be named, in one line; what was given for a
// secret's file may be the secret, and what was given for a key's the key.
func TestUnreadableFiles(t *testing.T) {
	for want, set := range map[string]map[string]string{
		"GATEWAY_TLS_CERT, GATEWAY_TLS_KEY: open /nowhere/cert: no such file or directory": {"GATEWAY_TLS_CERT": "/nowhere/cert", "GATEWAY_TLS_KEY": "/nowhere/key"},
		"must be the names of files":                                        {"GATEWAY_TLS_CERT": "/nowhere/cert", "GATEWAY_TLS_KEY": "-----BEGIN PRIVATE KEY-----\nhush"},
		"GATEWAY_JWT_SECRET_FILE: open the file: no such file or directory": {"GATEWAY_JWT_SECRET": "", "GATEWAY_JWT_SECRET_FILE": "hush"},
	} {
		environment(t, "postgres://postgres@127.0.0.1:1/x")
		t.Setenv("GATEWAY_LOG_LEVEL", "error")
		for name, value := range set {
			t.Setenv(name, value)
		}
		var stderr bytes.Buffer
		status := run(t.Context(), nil, io.Discard, &stderr)
		if text := stderr.String(); status != 2 || !strings.Contains(text, want) || strings.Count(text, "\n") != 1 || strings.Contains(text, "hush") {
			t.Errorf("status %d: %s, want %q", status, text, want)
		}
	}
}

// A port that is taken must be told, not waited for.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	environment(t, "postgres://postgres@127.0.0.1:1/x")
	t.Setenv("GATEWAY_ADDR", l.Addr().String())
	var stderr bytes.Buffer
	if status := run(t.Context(), nil, io.Discard, &stderr); status != 1 || !strings.Contains(stderr.String(), "GATEWAY_ADDR") {
		t.Errorf("status %d: %s", status, &stderr)
	}
}

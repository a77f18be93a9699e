package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/losscheck"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// fakeGateway streams the rows of the CRM's table in the order in which it
// finds them; an event's id is its place in that order. spoil may change what
// the n-th row of a user becomes.
type fakeGateway struct {
	db    *throwaway.DB
	spoil func(n int, e fakeEvent) []fakeEvent

	mu     sync.Mutex
	seen   []int64               // IDs of rows; guarded by mu
	events map[int64][]fakeEvent // by user; guarded by mu
	rows   map[int64]int         // how many there were, by user; guarded by mu
	more   chan struct{}         // closed when something came; guarded by mu
}

type fakeEvent struct {
	name  string // "notification" where empty
	to    int64  // whose stream gets it; 0: the row's user's
	ID    int64  `json:"id"`
	User  int64  `json:"user"`
	Title string `json:"title"`
	Large string `json:"message,omitempty"`
}

// look finds new rows until ctx ends.
func (f *fakeGateway) look(ctx context.Context) error {
	for ctx.Err() == nil {
		var text []byte
		var found []fakeEvent
		err := f.db.QueryRow(ctx, []any{&text}, `SELECT coalesce(json_agg(json_build_object('id', id, 'user', user_id, 'title', title) ORDER BY id), '[]')
			FROM notifications WHERE id <> ALL ($1::bigint[])`, f.seen)
		if err == nil {
			err = json.Unmarshal(text, &found)
		}
		if err != nil {
			return err
		}
		f.mu.Lock()
		for _, e := range found {
			f.seen = append(f.seen, e.ID)
			for _, out := range f.spoil(f.rows[e.User], e) {
				to := cmp.Or(out.to, e.User)
				f.events[to] = append(f.events[to], out)
			}
			f.rows[e.User]++
		}
		if len(found) > 0 {
			close(f.more)
			f.more = make(chan struct{})
		}
		f.mu.Unlock()
	}
	return nil
}

func (f *fakeGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	at, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	user := tokenUser(r)
	fmt.Fprintf(w, "id: %d\nevent: connected\nretry: 20\ndata: {\"user\":%d}\n\n", at, user)
	for {
		w.(http.Flusher).Flush()
		f.mu.Lock()
		events, more := f.events[user][at:], f.more
		f.mu.Unlock()
		for _, e := range events {
			at++
			text, err := json.Marshal(e)
			if err != nil {
				panic(err)
			}
			if e.name == "" {
				e.name = "notification"
			}
			fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", at, e.name, text)
		}
		if len(events) == 0 {
			select {
			case <-more:
			case <-r.Context().Done():
				return
			}
		}
	}
}

// tokenUser believes a token what it says.
func tokenUser(r *http.Request) int64 {
	var claims struct {
		User int64 `json:"user_id"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(r.Header.Get("Authorization"), ".")[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil {
		panic(err)
	}
	return claims.User
}

// startFake runs a fake gateway over a database of its own.
func startFake(t *testing.T, spoil func(int, fakeEvent) []fakeEvent) (database, stream string) {
	t.Helper()
	database = storetest.CRM(t)
	db, err := throwaway.Open(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeGateway{db: db, spoil: spoil, events: map[int64][]fakeEvent{}, rows: map[int64]int{}, more: make(chan struct{})}
	f.seen = []int64{}
	ctx, cancel := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	looking.Go(func() {
		if err := f.look(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	server := httptest.NewServer(f)
	t.Cleanup(func() { cancel(); looking.Wait(); server.Close(); db.Close() })
	return database, server.URL + "/stream"
}

// checkFake runs the checker for a moment and returns its report.
func checkFake(t *testing.T, database, stream string, args ...string) (status int, r losscheck.Report, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	args = append([]string{
		"check-loss", "--database-url", database, "--gateways", stream, "--users", "5", "--json",
		"--clients", "1", "--writers", "4", "--rate", "200", "--pause", "50ms", "--duration", "500ms", "--hop", "100ms", "--settle", "1s",
	}, args...)
	status = run(t.Context(), args, &out, &log)
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatalf("%v: %s", err, &out)
		}
	}
	return status, r, log.String()
}

// A checker that cannot fail proves nothing: each fault must be found, counted
// and answered with status 1, and a gateway without faults with 0.
func TestCheckLossFindsFaults(t *testing.T) {
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	first := func(spoil func(e fakeEvent) []fakeEvent) func(int, fakeEvent) []fakeEvent {
		return func(n int, e fakeEvent) []fakeEvent {
			if n > 0 {
				return []fakeEvent{e}
			}
			return spoil(e)
		}
	}
	for name, c := range map[string]struct {
		spoil  func(int, fakeEvent) []fakeEvent
		args   []string
		status int
		want   losscheck.Report
	}{
		"none":        {spoil: first(func(e fakeEvent) []fakeEvent { return []fakeEvent{e} })},
		"drops one":   {spoil: first(func(fakeEvent) []fakeEvent { return nil }), status: 1, want: losscheck.Report{Missing: 1}},
		"twice":       {spoil: first(func(e fakeEvent) []fakeEvent { return []fakeEvent{e, e} }), want: losscheck.Report{Duplicates: 1}},
		"invents one": {spoil: first(func(e fakeEvent) []fakeEvent { made := e; made.Title += "000000"; return []fakeEvent{made, e} }), status: 1, want: losscheck.Report{Phantom: 1}},
		"a large one": {spoil: first(func(e fakeEvent) []fakeEvent { e.Large = strings.Repeat("x", 4<<20-1000); return []fakeEvent{e} }), args: []string{"--hop", "0", "--settle", "30s"}},
		"another ID":  {spoil: first(func(e fakeEvent) []fakeEvent { e.ID += 1_000_000; return []fakeEvent{e} }), status: 1, want: losscheck.Report{Phantom: 1}},
		"another's":   {spoil: first(func(e fakeEvent) []fakeEvent { other := e; other.User = 7; return []fakeEvent{other, e} }), status: 1, want: losscheck.Report{Foreign: 1}},
		"resets":      {spoil: first(func(e fakeEvent) []fakeEvent { return []fakeEvent{{name: "reset"}} }), want: losscheck.Report{Resets: 1}},
		"no resets":   {spoil: first(func(e fakeEvent) []fakeEvent { return []fakeEvent{{name: "reset"}} }), args: []string{"--max-resets", "0"}, status: 1, want: losscheck.Report{Resets: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			database, stream := startFake(t, c.spoil)
			status, r, stderr := checkFake(t, database, stream, c.args...)
			got := losscheck.Report{Missing: r.Missing, Phantom: r.Phantom, Foreign: r.Foreign, Duplicates: r.Duplicates, Resets: r.Resets}
			if status != c.status || !reflect.DeepEqual(got, c.want) {
				t.Errorf("status %d, %+v, want %d, %+v\n%s", status, got, c.status, c.want, stderr)
			}
			if r.Rows == 0 || r.Deliveries != r.Rows || (r.Reloaded > 0) != (c.want.Resets > 0) {
				t.Errorf("%+v", r)
			}
			var left int
			db, err := throwaway.Open(t.Context(), database)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := db.QueryRow(t.Context(), []any{&left}, "SELECT count(*) FROM notifications"); err != nil {
				t.Fatal(err)
			}
			if (left == 0) != (status == 0) {
				t.Errorf("%d rows are left after status %d", left, status)
			}
		})
	}
}

// A stream that the checker cannot read proves nothing of the rows behind: that
// must end the run with the reason, not be called a loss.
func TestCheckLossEndsAtAnUnreadableLine(t *testing.T) {
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	database, stream := startFake(t, func(n int, e fakeEvent) []fakeEvent {
		if n == 0 {
			e.Large = strings.Repeat("x", 9<<20)
		}
		return []fakeEvent{e}
	})
	status, _, stderr := checkFake(t, database, stream, "--hop", "0", "--settle", "30s")
	if status != 1 || !strings.Contains(stderr, "longer than 8 MiB") || strings.Contains(stderr, "missing:") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// A gateway that tells nobody of changes must be found: its clients go on showing
// rows as unread that were read elsewhere.
func TestCheckLossFindsLostChanges(t *testing.T) {
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	database, stream := startFake(t, func(_ int, e fakeEvent) []fakeEvent { return []fakeEvent{e} })
	status, r, stderr := checkFake(t, database, stream, "--changes")
	if status != 1 || r.Wrong == 0 || r.Changed == 0 || r.Missing+r.Phantom+r.Foreign > 0 || !strings.Contains(stderr, "--on-update is_read") {
		t.Errorf("status %d: %+v\n%s", status, r, stderr)
	}
}

// A row of another user that is passed off as the client's own must be found
// by what the table says.
func TestCheckLossFindsForgedRecipient(t *testing.T) {
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	database, stream := startFake(t, func(n int, e fakeEvent) []fakeEvent {
		if forged := e; e.User == 7 && n == 0 {
			forged.to, forged.User = 5, 5
			return []fakeEvent{e, forged}
		}
		return []fakeEvent{e}
	})
	status, r, stderr := checkFake(t, database, stream, "--users", "5,7", "--rate", "1000")
	if status != 1 || r.Foreign != 1 || r.Missing+r.Phantom > 0 {
		t.Errorf("status %d, %+v\n%s", status, r, stderr)
	}
}

// What is mistyped must be told in one line; what does not work, with status 1.
func TestCommandLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("5 a b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GATEWAY_JWT_SECRET", "")
	t.Setenv("DATABASE_URL", "")
	const ok = "check-loss --database-url postgres://postgres@127.0.0.1:1/x --gateways http://127.0.0.1:1/ "
	for line, want := range map[string]int{
		"": 2, "-h": 0, "check-loss -h": 0, "nonsense": 2, "check-loss": 2, "check-loss --nonsense": 2,
		"check-loss --gateways http://x --users 5": 2, ok: 2, ok + "--users 5": 2, ok + "now": 2,
		ok + "--users 5 --duration 0s": 2, ok + "--users 5 --writers 0": 2, ok + "--users 5 --rate -1": 2,
		ok + "--token-file /nowhere": 2, ok + "--token-file " + file: 2, ok + "--users x": 2, ok + "--gateways ftp://x --users 5": 2,
	} {
		var stdout, stderr bytes.Buffer
		if got := run(t.Context(), strings.Fields(line), &stdout, &stderr); got != want {
			t.Errorf("bench %s: status %d, want %d: %s", line, got, want, &stderr)
		}
		if want == 2 && line != "" && strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("bench %s says %q, want one line", line, &stderr)
		}
	}
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	var stdout, stderr bytes.Buffer
	if got := run(t.Context(), strings.Fields(ok+"--users 5"), &stdout, &stderr); got != 1 || strings.Contains(stderr.String(), "postgres@") {
		t.Errorf("no Postgres: status %d: %s", got, &stderr)
	}
}

// A refusal must end the run and be shown, not be tried for ever.
func TestCheckLossIsRefused(t *testing.T) {
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	for want, answer := range map[string]http.HandlerFunc{
		"401": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad token", http.StatusUnauthorized) },
		"no event stream": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
		},
		"user 7": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			fmt.Fprint(w, "id: 1\nevent: connected\ndata: {\"user\":7}\n\n")
		},
	} {
		server := httptest.NewServer(answer)
		status, _, stderr := checkFake(t, storetest.CRM(t), server.URL)
		server.Close()
		if status != 1 || !strings.Contains(stderr, want) {
			t.Errorf("status %d: %s, want %q", status, stderr, want)
		}
	}
}

// The table must be one that takes rows for these users, before anything else.
func TestCheckLossNeedsRecipients(t *testing.T) {
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	database := storetest.CRM(t)
	for _, args := range [][]string{{"--users", "6"}, {"--table", "nowhere"}, {"--table", "tasks"}} {
		if status, _, stderr := checkFake(t, database, "http://127.0.0.1:1/", args...); status != 1 || !strings.Contains(stderr, args[1]) {
			t.Errorf("%v: status %d: %s", args, status, stderr)
		}
	}
}

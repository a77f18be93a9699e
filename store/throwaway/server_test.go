package throwaway_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// A server that does not deliver notifications, or leaves its files behind,
// would make every other test useless.
func TestServer(t *testing.T) {
	s := start(t)
	url, err := s.CreateDatabase(t.Context(), "one", "")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close(context.Background())
	if _, err := listener.Exec(t.Context(), "LISTEN probe"); err != nil {
		t.Fatal(err)
	}
	db, err := throwaway.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Exec(t.Context(), "SELECT pg_notify('probe', $1)", "it arrived"); err != nil {
		t.Fatal(err)
	}
	n, err := listener.WaitForNotification(t.Context())
	if err != nil || n.Payload != "it arrived" {
		t.Fatalf("notification = %v, %v", n, err)
	}
	if err := s.DropDatabase(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if _, err := pgx.Connect(t.Context(), url); err == nil {
		t.Error("the dropped database still answers")
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("DATABASE_URL") == "" {
		if conn, err := pgx.Connect(t.Context(), s.URL); err == nil {
			conn.Close(t.Context())
			t.Error("the stopped server still answers")
		}
	}
}

// A test that is killed runs no clean-up: the server must end by itself, or
// every aborted run leaves a cluster behind.
func TestServerEndsWithItsParent(t *testing.T) {
	if os.Getenv("THROWAWAY_CHILD") != "" {
		s, err := throwaway.Start(context.Background(), t.Logf)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("url=%s\n", s.URL)
		select {} // until it is killed
	}
	start(t).Stop() // skips where there is no Postgres
	child := exec.Command(os.Args[0], "-test.run", "^TestServerEndsWithItsParent$")
	files, err := os.MkdirTemp("", "throwaway-") // what the killed child leaves
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(files) })
	if err := os.Chmod(files, 0o755); err != nil { // Postgres runs as another user
		t.Fatal(err)
	}
	child.Env = append(os.Environ(), "THROWAWAY_CHILD=1", "NOTIFICATION_GATEWAY_POSTGRES=local", "TMPDIR="+files)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var url string
	for lines := bufio.NewScanner(out); url == "" && lines.Scan(); {
		url, _ = strings.CutPrefix(lines.Text(), "url=")
		if !strings.HasPrefix(url, "postgres") {
			url = ""
		}
	}
	if url == "" {
		t.Fatal("the child started no server")
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	child.Process.Kill()
	child.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = conn.WaitForNotification(ctx) // ends when the server does
	if ctx.Err() != nil || err == nil {
		t.Fatalf("the server outlived its parent: %v", err)
	}
	for { // its files go too
		left, err := os.ReadDir(files)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d files outlived their parent", len(left))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// A request that was passed over would have tests, or the demo, run on another
// server than the one that was meant, without a word of why.
func TestUnreachableServerIsTold(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://hush:hush@127.0.0.1:1,127.0.0.2:1/hush")
	t.Setenv("NOTIFICATION_GATEWAY_POSTGRES", "url")
	var told []string
	_, err := throwaway.Start(t.Context(), func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) })
	if err == nil || len(told) != 1 {
		t.Fatalf("%v, %q", err, told)
	}
	if line := told[0]; !strings.Contains(line, "DATABASE_URL") || !strings.Contains(line, "connection refused") || strings.Contains(line, "\n") || strings.Contains(line, "hush") {
		t.Errorf("it says %q", line)
	}
	t.Setenv("NOTIFICATION_GATEWAY_POSTGRES", "bogus")
	if _, err := throwaway.Start(t.Context(), t.Logf); err == nil || !throwaway.Required() {
		t.Errorf("%v, required: %t", err, throwaway.Required())
	}
}

// The demo took a CRM's DATABASE_URL by the driver alone, which sends what another
// library's parameters say to the server and does not know its scheme.
func TestServerAtTheURLOfAnotherLibrary(t *testing.T) {
	s := start(t)
	address, found := strings.CutPrefix(s.URL, "postgres://")
	if !found {
		address, _ = strings.CutPrefix(s.URL, "postgresql://")
	}
	separator := "?"
	if strings.Contains(address, "?") {
		separator = "&"
	}
	t.Setenv("DATABASE_URL", "postgis://"+address+separator+"keepalives_idle=30&pgbouncer=true&pool_max_conns=3")
	t.Setenv("NOTIFICATION_GATEWAY_POSTGRES", "url")
	given, err := throwaway.Start(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	url, err := given.CreateDatabase(t.Context(), "other_library", "")
	if err != nil {
		t.Fatal(err)
	}
	defer given.DropDatabase(context.Background(), "other_library")
	db, err := throwaway.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Error(err)
	}
}

func start(t *testing.T) *throwaway.Server {
	t.Helper()
	s, err := throwaway.Start(t.Context(), t.Logf)
	if err != nil && throwaway.Required() {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

//go:build e2e && linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// pooler runs a real PgBouncer in transaction mode in front of database, and
// returns the address of the same database through it.
func pooler(t *testing.T, database string) string {
	t.Helper()
	direct, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	// Not t.TempDir, whose parents only root may enter.
	dir, err := os.MkdirTemp("", "notification-gateway-pooler-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "pgbouncer.ini")
	config := fmt.Sprintf("[databases]\n* = user=postgres host=%s port=%s\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=%s\nunix_socket_dir=\n"+
		"auth_type=any\npool_mode=transaction\nmax_client_conn=100\ndefault_pool_size=5\n", direct.Hostname(), direct.Port(), port)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("pgbouncer", file)
	// Its own change of user would lose the parent-death signal, see prctl(2).
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	if os.Geteuid() == 0 { // which it refuses
		cmd.SysProcAttr.Credential = nobody(t)
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	exited, err := throwaway.StartTied(cmd)
	if err != nil {
		t.Fatalf("start pgbouncer: %v", err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); <-exited })
	direct.Host = net.JoinHostPort("127.0.0.1", port)
	for deadline := time.Now().Add(30 * time.Second); ; {
		conn, err := net.Dial("tcp", direct.Host)
		if err == nil {
			conn.Close()
			return direct.String()
		}
		select {
		case <-exited:
			t.Fatalf("pgbouncer exited: %s", &log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func nobody(t *testing.T) *syscall.Credential {
	t.Helper()
	who, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(who.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(who.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// Behind a pooler in transaction mode LISTEN succeeds and nothing ever comes,
// a prepared statement is another server's, and a lock of the session stays
// behind for a stranger. The gateway must see it, say it, and deliver.
func TestE2EPooler(t *testing.T) {
	database := storetest.CRM(t)
	db := open(t, database)
	pooled := pooler(t, database)
	environment(t, pooled)
	t.Setenv("GATEWAY_RECIPIENT", "lookup")
	if err := db.Exec(t.Context(), "INSERT INTO auth_user (id, username) VALUES (50, 'alice@example.com')"); err != nil {
		t.Fatal(err)
	}
	g := serveInTest(t)
	if body := g.readyz(t, 200); !strings.Contains(body, "only polled") {
		t.Errorf("readyz does not say that it only polls: %s", body)
	}
	token := mint(t, "50")
	lines := g.stream(t, token, "")
	id := until(t, lines, "Connected")
	for i := range 5 { // more often than pgx tries before it prepares by name
		insertRow(t, db, fmt.Sprint("row ", i))
		id = until(t, lines, fmt.Sprint("row ", i))
	}
	insertRow(t, db, "while away")
	until(t, g.stream(t, token, id), "while away")
	var locks int
	if err := db.QueryRow(t.Context(), []any{&locks}, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1734440037 AND objid <= 8"); err != nil || locks != 0 {
		t.Errorf("%d locks of the doorbell are held through the pooler (%v)", locks, err)
	}
	var report, stderr bytes.Buffer
	if status := run(t.Context(), []string{"check"}, &report, &stderr); status != 1 || !strings.Contains(report.String(), "✘ listen") || strings.Count(report.String(), "✘") != 1 {
		t.Errorf("check: status %d\n%s", status, &report)
	}
	if !strings.Contains(g.log.String(), "feed only polls") {
		t.Errorf("the log does not say that it only polls:\n%s", g.log)
	}
	if status := g.stop(); status != 0 {
		t.Errorf("ended with %d", status)
	}

	g = serveInTest(t) // another, which is lent the sessions that the first one used
	g.readyz(t, 200)
	insertRow(t, db, "again")
	id = until(t, g.stream(t, token, id), "again")
	if status := g.stop(); status != 0 {
		t.Errorf("ended with %d", status)
	}

	t.Setenv("GATEWAY_LISTEN_DATABASE_URL", database)
	g = serveInTest(t)
	if body := g.readyz(t, 200); strings.Contains(body, "warnings") {
		t.Errorf("with a direct connection for LISTEN: %s", body)
	}
	insertRow(t, db, "direct")
	until(t, g.stream(t, token, id), "direct")
}

// Through a pooler no session is the gateway's own, and the search_path is
// whoever's: a function in schema public that fitted a call better than
// Postgres's own was called with the rights of the gateway.
func TestE2EPoolerCallsNobodyElsesFunctions(t *testing.T) {
	database := storetest.CRM(t)
	db := open(t, database)
	if err := db.Exec(t.Context(), "INSERT INTO auth_user (id, username) VALUES (50, 'alice@example.com')"); err != nil {
		t.Fatal(err)
	}
	traps := storetest.PlantTraps(t, database)
	none := func(after string) {
		t.Helper()
		if what := traps.Sprung(t); what != "" {
			t.Errorf("%s called a stranger's %s", after, what)
		}
	}
	environment(t, pooler(t, database))
	t.Setenv("GATEWAY_RECIPIENT", "lookup")
	g := serveInTest(t)
	g.readyz(t, 200)
	none("start-up")
	token := mint(t, "50")
	lines := g.stream(t, token, "")
	until(t, lines, "Connected")
	insertRow(t, db, "live")
	id := until(t, lines, "live")
	none("a live row")
	insertRow(t, db, "while away")
	until(t, g.stream(t, token, id), "while away")
	none("a replay")
	resp, err := http.Get(g.public + "/api/notifications/stream/?replay=unread&token=" + token)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	until(t, bufio.NewScanner(resp.Body), "while away")
	none("unread")
	for _, command := range [][]string{{"migrate", "--mapping", "reference_crm"}, {"attach", "notifications"}, {"check", "--token", token}} {
		var report bytes.Buffer
		run(t.Context(), command, &report, &report)
		none("gateway " + command[0])
		if strings.Count(report.String(), "✘") > 1 { // LISTEN
			t.Errorf("%v says:\n%s", command, &report)
		}
	}
}

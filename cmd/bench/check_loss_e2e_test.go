//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
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

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/losscheck"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const waitFor = 30 * time.Second // for one thing to happen, on a slow machine

// victim is a gateway of its own, built with the race detector.
type victim struct {
	cmd    *exec.Cmd
	exited <-chan struct{}
	addr   string
	spoke  chan string // once it has ended: what is no log line, a panic or a race
}

// startGateway starts a gateway and waits until it listens.
func startGateway(t *testing.T, binary, database, addr string) *victim {
	t.Helper()
	p := &victim{cmd: exec.Command(binary, "serve"), spoke: make(chan string, 1)} // one: the whole
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GATEWAY_") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(p.cmd.Env, "DATABASE_URL="+database, "GATEWAY_JWT_SECRET="+testSecret, "GATEWAY_RECIPIENT=claim", "GATEWAY_ADDR="+addr,
		"GATEWAY_ADMIN_ADDR=127.0.0.1:0", "GATEWAY_MAX_STREAMS=500", "GATEWAY_DRAIN=1s")
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = out
	p.exited, err = throwaway.StartTied(p.cmd)
	out.Close()
	if err != nil {
		in.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.exited
		if text := <-p.spoke; text != "" {
			t.Error(text)
		}
	})
	listening := make(chan string, 1) // one: it is said once
	go func() {
		defer in.Close()
		var other strings.Builder
		defer func() { p.spoke <- other.String() }()
		for lines := bufio.NewScanner(in); lines.Scan(); {
			var line struct{ Msg, Addr string }
			if json.Unmarshal(lines.Bytes(), &line) != nil {
				other.WriteString(lines.Text() + "\n")
			}
			if line.Msg == "listening" {
				listening <- line.Addr
			}
		}
	}()
	select {
	case p.addr = <-listening:
	case <-p.exited:
		t.Fatal("the gateway ended at once")
	case <-time.After(waitFor):
		t.Fatal("the gateway does not listen")
	}
	return p
}

// kill ends the process as the kernel would when memory is short.
func (p *victim) kill(t *testing.T) {
	t.Helper()
	p.cmd.Process.Kill()
	<-p.exited
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Errorf("the gateway ended by itself: %v", p.cmd.ProcessState)
	}
}

func startedAt(t *testing.T, database string) (at time.Time, version string) {
	t.Helper()
	db, err := throwaway.Open(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(t.Context(), []any{&at, &version}, "SELECT pg_postmaster_start_time(), current_setting('server_version')"); err != nil {
		t.Fatal(err)
	}
	return at, version
}

// fleet is two gateways of one database, between which the clients hop.
type fleet struct {
	t        *testing.T
	binary   string
	database string
	gateways [2]*victim
}

func startFleet(t *testing.T, database string) *fleet {
	t.Helper()
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	f := &fleet{t: t, binary: filepath.Join(t.TempDir(), "gateway"), database: database}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", f.binary, "../gateway").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return f
}

// start starts both gateways.
func (f *fleet) start() {
	f.t.Helper()
	for i := range f.gateways {
		f.gateways[i] = startGateway(f.t, f.binary, f.database, "127.0.0.1:0")
	}
}

func (f *fleet) kill(i int) { f.t.Helper(); f.gateways[i].kill(f.t) }

// again starts a gateway that was killed, at its address.
func (f *fleet) again(i int) {
	f.t.Helper()
	f.gateways[i] = startGateway(f.t, f.binary, f.database, f.gateways[i].addr)
}

func (f *fleet) streams() (all []string) {
	for _, g := range f.gateways {
		all = append(all, "http://"+g.addr+"/api/notifications/stream/")
	}
	return all
}

// check runs the checker for 20 s and carries out the faults, by the checker's own
// progress, which it logs once a second.
func (f *fleet) check(database string, faults map[int]func(), args ...string) (status int, r losscheck.Report) {
	t := f.t
	t.Helper()
	in, log := io.Pipe()
	defer in.Close()
	var out bytes.Buffer
	ended := make(chan int, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		ended <- run(ctx, append([]string{
			"check-loss", "--database-url", database, "--gateways", strings.Join(f.streams(), ","), "--users", "5,7", "--duration", "20s",
			"--rate", "300", "--settle", "30s", "--json",
		}, args...), &out, log)
		log.Close()
	}()
	var said strings.Builder
	defer func() {
		if t.Failed() {
			t.Log(said.String())
		}
	}()
	progress := 0
	for lines := bufio.NewScanner(in); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if !strings.Contains(lines.Text(), "msg=progress") {
			continue
		}
		progress++
		if fault := faults[progress]; fault != nil {
			fault()
			delete(faults, progress)
		}
	}
	status = <-ended
	t.Logf("%s", &out)
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	if status != 0 || r.Missing+r.Phantom+r.Foreign+r.Wrong > 0 {
		t.Errorf("status %d, missing %d, phantom %d, foreign %d, wrong %d", status, r.Missing, r.Phantom, r.Foreign, r.Wrong)
	}
	if len(faults) > 0 {
		t.Errorf("faults left: %d", len(faults))
	}
	for _, s := range f.streams() { // both are back
		if resp, err := http.Get(s); err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%v, %v", resp, err)
		} else {
			resp.Body.Close()
		}
	}
	return status, r
}

// TestE2ECheckLoss is the main promise, kept by real processes: each of two
// gateways is killed, then both at once, Postgres stops without a checkpoint, sessions are
// terminated all the time, and no row is lost or made up.
func TestE2ECheckLoss(t *testing.T) {
	server, database := storetest.OwnCRM(t)
	began, version := startedAt(t, database)
	t.Logf("Postgres %s, %s", version, server.Source)
	f := startFleet(t, database)
	f.start()
	_, r := f.check(database, map[int]func(){
		3:  func() { f.kill(0) },
		5:  func() { f.again(0) },
		9:  func() { crash(t, server) },
		10: func() { restart(t, server) },
		14: func() { f.kill(0); f.kill(1) },
		16: func() { f.again(0); f.again(1) }, // who comes back now is replayed from the log
	}, "--terminate-backends", "1500ms", "--max-resets", "8")
	// After the crash a client whose cursor cannot be proven is told to reload.
	if r.Rows < 500 || r.Deliveries != 4*r.Rows || r.Erased > 0 {
		t.Errorf("%d rows, %d deliveries, %d erased, %d resets", r.Rows, r.Deliveries, r.Erased, r.Resets)
	}
	if again, _ := startedAt(t, database); !again.After(began) {
		t.Error("Postgres was not restarted")
	}
	if r.Terminated < 5 || r.Broken < 10 || r.Connects < 30 {
		t.Errorf("terminated %d, broken sessions %d, connects %d", r.Terminated, r.Broken, r.Connects)
	}
}

// A page that follows changes must show in the end what is unread, although its
// streams are cut, gateways are killed and rows are marked, deleted and marked by
// hundreds meanwhile. A change that is lost shows nowhere else.
func TestE2ECheckLossChanges(t *testing.T) {
	server, database := storetest.OwnCRM(t)
	_, version := startedAt(t, database)
	t.Logf("Postgres %s, %s", version, server.Source)
	f := startFleet(t, database)
	attach := exec.CommandContext(t.Context(), f.binary, "attach", "public.notifications", "--on-update", "is_read", "--on-delete")
	attach.Env = append(os.Environ(), "DATABASE_URL="+database)
	if out, err := attach.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f.start()
	_, r := f.check(database, map[int]func(){
		3:  func() { f.kill(0) },
		5:  func() { f.again(0) },
		9:  func() { crash(t, server) },
		10: func() { restart(t, server) },
		14: func() { f.kill(0); f.kill(1) },
		16: func() { f.again(0); f.again(1) },
	}, "--changes", "--terminate-backends", "1500ms", "--max-resets", "8")
	if r.Rows < 200 || r.Changed < 500 || r.Updated < 500 || r.Removed < 50 || r.Refreshes == 0 {
		t.Errorf("%d rows, %d changed, %d updated, %d removed, %d refreshes", r.Rows, r.Changed, r.Updated, r.Removed, r.Refreshes)
	}
}

// Sessions that are terminated and a clean restart of Postgres lose nothing that a
// cursor has seen, so a client that resumes must get no row again.
func TestE2ECheckLossRepeatsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		args   []string
		faults func(*throwaway.Server) map[int]func()
	}{
		"while sessions are terminated": {[]string{"--terminate-backends", "500ms"}, func(*throwaway.Server) map[int]func() { return nil }},
		"over restarts of Postgres": {nil, func(server *throwaway.Server) map[int]func() {
			again := func() { shutdown(t, server); restart(t, server) }
			return map[int]func(){5: again, 10: again, 15: again}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server, database := storetest.OwnCRM(t)
			f := startFleet(t, database)
			f.start()
			_, r := f.check(database, c.faults(server), append(c.args, "--max-resets", "0")...)
			if r.Rows < 500 || r.Broken == 0 || r.Duplicates > r.Deliveries/10 { // a third is what it was without the guard of what a cursor has seen
				t.Errorf("%d rows, %d broken sessions, %d duplicates of %d deliveries", r.Rows, r.Broken, r.Duplicates, r.Deliveries)
			}
		})
	}
}

// In one run a gateway is killed, a dump is restored on the same server, whose new
// rows take the IDs of delivered ones, and the server fails over to a standby that
// may lack what its primary committed last. What the table holds in the end must
// have reached everybody, and nobody may have been left without a reset.
func TestE2ECheckLossFailoverAndRestore(t *testing.T) {
	primary, database := storetest.OwnCRM(t)
	_, version := startedAt(t, database)
	t.Logf("Postgres %s, %s", version, primary.Source)
	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Stop(); err != nil {
			t.Error(err)
		}
	})
	both := twoHosts(t, database, standby.URL)
	f := startFleet(t, both)
	f.start()
	var restored []string
	_, r := f.check(both+"&target_session_attrs=read-write", map[int]func(){
		3:  func() { f.kill(0) },
		4:  func() { f.again(0) },
		6:  func() { onServer(t, primary.URL, dumpSQL...) },
		8:  func() { onServer(t, primary.URL, restoreSQL...); restored = restoreSQL },
		12: func() { crash(t, primary); onServer(t, standby.URL, "SELECT pg_promote()") },
		15: func() { f.kill(0); f.kill(1) },
		16: func() { f.again(0); f.again(1) },
	}, "--terminate-backends", "1500ms")
	if r.Rows < 500 || r.Deliveries != 4*r.Rows || r.Erased == 0 || r.Resets < 8 || restored == nil {
		t.Errorf("%d rows, %d deliveries, %d erased, %d resets", r.Rows, r.Deliveries, r.Erased, r.Resets)
	}
	if r.Terminated < 5 || r.Broken < 10 {
		t.Errorf("terminated %d, broken sessions %d", r.Terminated, r.Broken)
	}
}

// A copy of a database stands for its dump: it has all rows, those of unlogged
// tables too, and needs no program of the server's version. Nobody may be
// connected while it is made.
var (
	dumpSQL = []string{
		"ALTER DATABASE crm ALLOW_CONNECTIONS false", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'crm'",
		"CREATE DATABASE dump TEMPLATE crm", "ALTER DATABASE crm ALLOW_CONNECTIONS true",
	}
	restoreSQL = []string{"ALTER DATABASE crm ALLOW_CONNECTIONS false", "DROP DATABASE crm WITH (FORCE)", "ALTER DATABASE dump RENAME TO crm"}
)

func onServer(t *testing.T, server string, statements ...string) {
	t.Helper()
	db, err := throwaway.Open(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range statements {
		if err := db.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// twoHosts is the URL of a database with a second server behind the first.
func twoHosts(t *testing.T, database, second string) string {
	t.Helper()
	a, errA := url.Parse(database)
	b, errB := url.Parse(second)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	a.Host += "," + b.Host
	return a.String()
}

func crash(t *testing.T, server *throwaway.Server) {
	t.Helper()
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
}

func shutdown(t *testing.T, server *throwaway.Server) {
	t.Helper()
	if err := server.Shutdown(); err != nil {
		t.Fatal(err)
	}
}

func restart(t *testing.T, server *throwaway.Server) {
	t.Helper()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

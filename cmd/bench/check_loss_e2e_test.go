//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
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

// TestE2ECheckLoss is the main promise, kept by real processes: each of two
// gateways is killed, then both at once, Postgres stops without a checkpoint, sessions are
// terminated all the time, and no row is lost or made up.
func TestE2ECheckLoss(t *testing.T) {
	server, database := storetest.OwnCRM(t)
	t.Setenv("GATEWAY_JWT_SECRET", testSecret)
	began, version := startedAt(t, database)
	t.Logf("Postgres %s, %s", version, server.Source)
	binary := filepath.Join(t.TempDir(), "gateway")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", binary, "../gateway").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	gateways := [2]*victim{}
	var streams []string
	for i := range gateways {
		gateways[i] = startGateway(t, binary, database, "127.0.0.1:0")
		streams = append(streams, "http://"+gateways[i].addr+"/api/notifications/stream/")
	}
	in, log := io.Pipe()
	defer in.Close()
	var out bytes.Buffer
	ended := make(chan int, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		ended <- run(ctx, []string{
			"check-loss", "--database-url", database, "--gateways", strings.Join(streams, ","), "--users", "5,7", "--duration", "20s",
			"--terminate-backends", "1500ms", "--rate", "300", "--max-resets", "0", "--settle", "30s", "--json",
		}, &out, log)
		log.Close()
	}()
	again := func(i int) { gateways[i] = startGateway(t, binary, database, gateways[i].addr) }
	faults := map[int]func(){ // by the checker's own progress, which is once a second
		3:  func() { gateways[0].kill(t) },
		5:  func() { again(0) },
		9:  func() { crash(t, server) },
		10: func() { restart(t, server) },
		14: func() { gateways[0].kill(t); gateways[1].kill(t) },
		16: func() { again(0); again(1) }, // who comes back now is replayed from the log
	}
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
	status := <-ended
	t.Logf("Postgres %s: %s", version, &out)
	var r losscheck.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if status != 0 || r.Missing+r.Phantom+r.Foreign+r.Resets > 0 {
		t.Errorf("status %d", status)
	}
	if r.Rows < 500 || r.Deliveries != 4*r.Rows || r.Erased > 0 {
		t.Errorf("%d rows, %d deliveries, %d erased", r.Rows, r.Deliveries, r.Erased)
	}
	if again, _ := startedAt(t, database); !again.After(began) {
		t.Error("Postgres was not restarted")
	}
	if len(faults) > 0 || r.Terminated < 5 || r.Broken < 10 || r.Connects < 30 {
		t.Errorf("faults left %d, terminated %d, broken sessions %d, connects %d", len(faults), r.Terminated, r.Broken, r.Connects)
	}
	for _, s := range streams { // both are back
		if resp, err := http.Get(s); err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%v, %v", resp, err)
		} else {
			resp.Body.Close()
		}
	}
}

func crash(t *testing.T, server *throwaway.Server) {
	t.Helper()
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
}

func restart(t *testing.T, server *throwaway.Server) {
	t.Helper()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

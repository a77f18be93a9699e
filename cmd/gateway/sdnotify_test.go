package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// systemd is a socket as systemd has one for each Type=notify service.
type systemd struct {
	*testing.T
	conn *net.UnixConn
}

func listenAsSystemd(t *testing.T, name string) systemd {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return systemd{t, conn}
}

// until reads messages to one that has the assignment, and returns its value.
func (s systemd) until(assignment string) string {
	s.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		s.Fatal(err)
	}
	message := make([]byte, 4096)
	for {
		n, err := s.conn.Read(message)
		if err != nil {
			s.Fatalf("waiting for %s: %v", assignment, err)
		}
		for line := range strings.Lines(string(message[:n])) {
			if value, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), assignment); found {
				return value
			}
		}
	}
}

// With Type=notify systemd begins what depends on the service at READY=1, and
// kills a drain at TimeoutStopSec unless it is asked for more.
func TestSystemdIsTold(t *testing.T) {
	environment(t, storetest.CRM(t))
	t.Setenv("GATEWAY_DRAIN", "2s")
	dir, err := os.MkdirTemp("", "n") // a socket's path has 107 bytes at the most
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{filepath.Join(dir, "s"), fmt.Sprintf("@notification-gateway-%d", os.Getpid())} {
		s := listenAsSystemd(t, name)
		g := serveInTest(t)
		s.until("READY=1")
		if conn, err := net.Dial("tcp", strings.TrimPrefix(g.public, "http://")); err != nil {
			t.Errorf("after READY=1: %v", err)
		} else {
			conn.Close()
		}
		g.readyz(t, 200)
		lines := g.stream(t, mint(t, "5"), "")
		until(t, lines, "Connected")
		s.until("STATUS=streams: 1")
		stopped := make(chan int, 1)
		go func() { stopped <- g.stop() }()
		s.until("STOPPING=1")
		if status := <-stopped; status != 0 {
			t.Errorf("exit status %d", status)
		}
	}
}

// The end of a drain is GATEWAY_DRAIN away, whatever TimeoutStopSec says.
func TestSystemdIsAskedForTheDrain(t *testing.T) {
	environment(t, storetest.CRM(t))
	t.Setenv("GATEWAY_DRAIN", "1s")
	s := listenAsSystemd(t, fmt.Sprintf("@notification-gateway-drain-%d", os.Getpid()))
	g := serveInTest(t)
	go g.stop()
	extend, err := strconv.ParseInt(s.until("EXTEND_TIMEOUT_USEC="), 10, 64)
	if d := time.Duration(extend) * time.Microsecond; err != nil || d < time.Second+lastWrites || d > time.Minute {
		t.Errorf("it asks for %s, %v", d, err)
	}
	g.stop()
}

// A socket that is gone is no reason not to serve.
func TestSystemdIsAway(t *testing.T) {
	environment(t, storetest.CRM(t))
	t.Setenv("NOTIFY_SOCKET", "/nowhere/notify")
	g := serveInTest(t)
	g.readyz(t, 200)
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if !strings.Contains(g.log.String(), "systemd cannot be told") {
		t.Error("nothing is said of the socket")
	}
}

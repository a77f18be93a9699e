package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// Operators send SIGHUP to have files read again. It ended the process, and with
// it every stream.
func TestHangupReadsFilesAgain(t *testing.T) {
	environment(t, storetest.CRM(t))
	g := serveInTest(t)
	g.readyz(t, 200)
	lines := g.stream(t, mint(t, "5"), "")
	until(t, lines, "Connected")
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	g.log.await(t, "SIGHUP: files are read again")
	insertRow(t, open(t, os.Getenv("DATABASE_URL")), "after SIGHUP")
	until(t, lines, "after SIGHUP")
}

// A gateway that never became ready has nobody to say good-bye to: it made a
// restart five seconds longer.
func TestStopBeforeReady(t *testing.T) {
	environment(t, "postgres://postgres@127.0.0.1:1/x")
	t.Setenv("GATEWAY_DRAIN", "30s")
	g := serveInTest(t)
	g.readyz(t, 503)
	began := time.Now()
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if took := time.Since(began); took >= noticeMax || !strings.Contains(g.log.String(), "stopping before it is ready") {
		t.Errorf("it took %v: %s", took, g.log)
	}
}

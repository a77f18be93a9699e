//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// What README tells a stranger to paste must show a notification as it stands
// there, and the next one when it is inserted. Only the database and the port are
// replaced, and a command that fails ends the script.
func TestE2EREADMEStream(t *testing.T) {
	text, err := os.ReadFile(repository + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```sh\n")
	script, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("README.md has no block of sh")
	}
	database, address := storetest.Database(t), freeAddress(t)
	for old, replacement := range map[string]string{"postgres://…": `"$DATABASE"`, "127.0.0.1:8080": address} {
		if strings.Count(script, old) != 1 {
			t.Fatalf("README.md has %q %d times in its block, want once", old, strings.Count(script, old))
		}
		script = strings.Replace(script, old, replacement, 1)
	}
	environment(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// Without the trap the gateway would hold the output open when a command fails.
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", "trap 'kill $(jobs -p)' EXIT\n"+script)
	cmd.Dir = repository
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GATEWAY_") && !strings.HasPrefix(v, "DATABASE_URL=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "DATABASE="+database, "GATEWAY_ADDR="+address, "GATEWAY_ADMIN_ADDR=127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the gateway and curl end with it
	end := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = end
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		if err := end(); err != nil {
			t.Errorf("end the script: %v", err)
		}
		cmd.Wait() // it was killed
	})
	defer stop()
	var seen strings.Builder
	db := open(t, database)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&seen, lines.Text())
		switch {
		case strings.Contains(lines.Text(), `"title":"Hello"`):
			insertRow(t, db, "the next one")
		case strings.Contains(lines.Text(), `"title":"the next one"`):
			return
		}
	}
	stop()
	t.Fatalf("the script ended before it showed both notifications:\n%s\n%s", seen.String(), &stderr)
}

//go:build e2e && linux

package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

const unit = "notification-gateway.service"

// machine is a systemd of its own that runs the unit of deploy/systemd.
type machine struct {
	*testing.T
	root string
	pid  int // of systemd, as this machine sees it
	*instance
}

// boot puts the unit, its example of an environment and the credentials where
// deploy/README.md says, and starts systemd.
func boot(t *testing.T, database, settings string) *machine {
	t.Helper()
	for _, program := range []string{"systemd-analyze", "systemctl", "unshare", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil || os.Getuid() != 0 {
			t.Fatalf("the test needs root and %s", program)
		}
	}
	root, err := os.MkdirTemp("", "systemd-") // another user reads it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	m := &machine{T: t, root: root, instance: &instance{public: freeAddress(t), admin: freeAddress(t)}}
	read := func(name string) string {
		text, err := os.ReadFile("../../deploy/systemd/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	addresses := fmt.Sprintf("\nGATEWAY_ADDR=%s\nGATEWAY_ADMIN_ADDR=%s\nGATEWAY_RECIPIENT=claim\n", m.public, m.admin)
	for name, text := range map[string]string{
		"etc/systemd/system/" + unit:                  read(unit),
		"etc/systemd/system/" + unit + ".d/test.conf": "[Service]\nExecStart=\nExecStart=/opt/gateway serve\nStandardError=append:/run/gateway.log\n" + settings,
		"etc/notification-gateway/environment":        read("environment.example") + addresses,
		"etc/notification-gateway/database-url":       database + "\n",
		"etc/notification-gateway/jwt-secret":         testSecret + "\n",
	} {
		m.write(name, text)
	}
	m.public, m.admin = "http://"+m.public, "http://"+m.admin
	wants := filepath.Join(root, "etc/systemd/system/multi-user.target.wants")
	if err := os.Mkdir(wants, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../"+unit, filepath.Join(wants, unit)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", filepath.Join(root, "opt/gateway"), ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	m.start()
	return m
}

func (m *machine) write(name, text string) {
	m.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.Fatal(err)
	}
}

// start starts systemd and waits until it answers.
func (m *machine) start() {
	m.Helper()
	var said bytes.Buffer
	script := exec.Command("../../.ci/systemd-root", m.root)
	script.Stdout, script.Stderr = &said, &said
	script.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := script.Start(); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() {
		log, _ := os.ReadFile(fmt.Sprintf("/proc/%d/root/run/gateway.log", m.pid))
		status := m.ctl("status", "--no-pager", unit)
		script.Process.Signal(syscall.SIGTERM) // it may have ended
		script.Wait()                          // it was killed
		if m.Failed() {
			m.Logf("%s\n%s\n%s", &said, status, log)
		}
	})
	m.eventually("systemd runs", func() bool {
		// The script's child is unshare, whose child is systemd.
		for pid := script.Process.Pid; ; {
			child, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
			if err != nil || len(child) == 0 {
				return false
			}
			pid, _ = strconv.Atoi(strings.Fields(string(child))[0])
			if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(name) == "systemd\n" {
				m.pid = pid
				return strings.Contains(m.ctl("show", "--property=ActiveState", unit), "ActiveState=")
			}
		}
	})
}

// ctl runs systemctl inside.
func (m *machine) ctl(args ...string) string {
	target := []string{"--target", strconv.Itoa(m.pid), "--pid", "--mount", "--ipc", "--uts", "--cgroup", "systemctl"}
	out, err := exec.Command("nsenter", append(target, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v", out, err)
	}
	return string(out)
}

// show is a property of the unit.
func (m *machine) show(property string) string {
	return strings.TrimSpace(m.ctl("show", "--value", "--property="+property, unit))
}

// eventually waits until something holds.
func (m *machine) eventually(what string, holds func() bool) {
	m.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			m.Fatalf("it does not come true that %s", what)
		}
	}
}

// ready reports whether the gateway can serve.
func (m *machine) ready() bool {
	resp, err := http.Get(m.admin + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// freeAddress is an address on loopback that was free just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// The unit must shield the service as well as systemd can, start it with its
// credentials as a user of its own, know when it is ready, bring it back after a
// kill, and leave a drain the time that it needs.
func TestE2ESystemd(t *testing.T) {
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=15", "../../deploy/systemd/"+unit).CombinedOutput(); err != nil {
		t.Errorf("the exposure is above 1.5: %v\n%s", err, out)
	}
	database := storetest.CRM(t)
	environment(t, database)
	db := open(t, database)
	// Streams are taken for two seconds of this drain, and systemd would kill
	// after one if it were not asked for more.
	m := boot(t, database, "TimeoutStopSec=1\nEnvironment=GATEWAY_DRAIN=12s\n")
	m.eventually("the unit is active", func() bool { return m.show("ActiveState") == "active" })
	m.eventually("the gateway is ready", m.ready)
	lines := m.stream(t, mint(t, "5"), "")
	until(t, lines, "Connected")
	insertRow(t, db, "under systemd")
	until(t, lines, `"title":"under systemd"`)
	m.eventually("the status shows the stream", func() bool { return m.show("StatusText") == "streams: 1" })
	pid := m.show("MainPID")
	if files, _ := strconv.Atoi(m.show("LimitNOFILE")); files < 100_100 {
		t.Errorf("%d files are too few for GATEWAY_MAX_STREAMS", files)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/proc/%s/status", m.pid, pid))
	if err != nil || !strings.Contains(string(status), "CapEff:\t0000000000000000") || strings.Contains(string(status), "Uid:\t0\t") {
		t.Errorf("the process's rights: %v\n%s", err, status)
	}

	began := time.Now()
	m.ctl("kill", "--signal=KILL", unit)
	m.eventually("another process runs", func() bool { p := m.show("MainPID"); return p != pid && p != "0" })
	m.eventually("the gateway is back", m.ready)
	back := time.Since(began)
	if back > 8*time.Second {
		t.Errorf("it was back after %s", back)
	}

	lines = m.stream(t, mint(t, "5"), "")
	until(t, lines, "Connected")
	began = time.Now()
	m.ctl("stop", unit)
	until(t, lines, `"code":"draining"`)
	if state, result, code := m.show("ActiveState"), m.show("Result"), m.show("ExecMainStatus"); state != "inactive" || result != "success" || code != "0" {
		t.Errorf("after the drain: %s, %s, exit status %s", state, result, code)
	}
	t.Logf("back %s after a kill, drained in %s", back.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

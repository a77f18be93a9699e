package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// ownOutage is an outage on a server of its own.
func ownOutage(t *testing.T) *outage {
	environment(t, "postgres://postgres@127.0.0.1:1/x")
	t.Setenv("GATEWAY_PING_INTERVAL", "1s")
	o := &outage{T: t, token: mint(t, "5"), role: "gateway_role"}
	o.server, o.database = storetest.OwnCRM(t)
	o.on(o.server.URL, "CREATE ROLE gateway_role LOGIN PASSWORD 'old'")
	return o
}

// processes returns the server's, the postmaster first.
func (o *outage) processes() (pids []int) {
	o.Helper()
	db := open(o, o.server.URL)
	var text string
	if err := db.QueryRow(o.Context(), []any{&text}, `SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1) || ' ' ||
		(SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE pid <> pg_backend_pid())`); err != nil {
		o.Fatal(err)
	}
	for field := range strings.FieldsSeq(text) {
		var pid int
		fmt.Sscan(field, &pid)
		pids = append(pids, pid)
	}
	return pids
}

// A server that is stopped, as when its machine is moved, keeps every
// connection and answers nothing.
func TestPostgresIsStopped(t *testing.T) {
	o := ownOutage(t)
	o.start(&sync.Mutex{})
	var stopped []int
	goOn := func() {
		for _, pid := range stopped {
			unix.Kill(pid, unix.SIGCONT)
		}
		stopped = nil
	}
	t.Cleanup(goOn)
	o.suffer(fault{
		begin: func(o *outage) {
			stopped = o.processes()
			for _, pid := range stopped {
				unix.Kill(pid, unix.SIGSTOP)
			}
		},
		end:  func(*outage) { goOn() },
		says: "does not answer",
	})
}

// A password that was changed is told, and used again when it is right again.
func TestPasswordIsChanged(t *testing.T) {
	o := ownOutage(t)
	o.on(o.server.URL, `DO $$ BEGIN EXECUTE format('COPY (VALUES (''host all gateway_role 127.0.0.1/32 scram-sha-256''), (''host all all 127.0.0.1/32 trust'')) TO %L',
		current_setting('hba_file')); END $$; SELECT pg_reload_conf()`)
	o.start(&sync.Mutex{})
	o.suffer(fault{
		begin: func(o *outage) { o.sql("ALTER ROLE gateway_role PASSWORD 'new'"); o.cut() },
		end:   func(o *outage) { o.sql("ALTER ROLE gateway_role PASSWORD 'old'") },
		says:  "password authentication failed", write: true,
	})
}

// A full disk stops the CRM's inserts and in the end the server; what was
// acknowledged before must come, and what is inserted when there is room again.
func TestDiskIsFull(t *testing.T) {
	dir, err := os.MkdirTemp("", "notification-gateway-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128m,mode=755"); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("TMPDIR", dir)
	o := ownOutage(t)
	t.Setenv("GATEWAY_STREAM_BUFFER", "10000000") // what is inserted comes in bursts
	o.start(&sync.Mutex{})
	live := o.follow("")
	insertRow(t, o.crm, "before")
	live.untilTitle(t, "before")
	live.mu.Lock()
	away := live.lastID
	live.mu.Unlock()

	filler := filepath.Join(dir, "filler")
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(disk.Bavail)*disk.Bsize-256<<10); err != nil {
		t.Fatal(err)
	}
	f.Close()
	var acknowledged []string
	made, lines, began := o.path.made.Load(), strings.Count(o.gateway.log.String(), "\n"), time.Now()
	for n := 0; ; n++ {
		title := fmt.Sprint("row ", n)
		err := o.crm.Exec(t.Context(), "INSERT INTO notifications (user_id, notification_type, title, message) VALUES (5, 'x', $1, repeat('m', 4000))", title)
		if err != nil {
			t.Logf("after %d rows: %v", n, err)
			break
		}
		acknowledged = append(acknowledged, title)
	}
	back := o.follow(away)
	for _, title := range acknowledged { // reading needs no room
		back.untilTitle(t, title)
	}
	// Nor has the next segment of the write-ahead log any, which ends the server.
	err = o.crm.Exec(t.Context(), "SELECT pg_switch_wal(); SELECT pg_logical_emit_message(false, 'x', 'y')")
	t.Logf("the log: %v", err)
	live.untilPings(t, 2)
	back.untilPings(t, 2)
	took := time.Since(began)
	made, lines = o.path.made.Load()-made, strings.Count(o.gateway.log.String(), "\n")-lines
	t.Logf("%d connections and %d lines in %v; readyz says %s", made, lines, took.Round(time.Millisecond), o.gateway.readyz(t, 503))
	if most := 6 + 3*int64(took.Seconds()+1); made > most || int64(lines) > most {
		t.Errorf("%d connections and %d lines in %v are too many", made, lines, took)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if db, err := throwaway.Open(t.Context(), o.server.URL); err != nil || db.Exec(t.Context(), "SELECT 1") != nil {
		t.Log("the server is gone and is started again")
		if err := o.server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	} else {
		db.Close()
	}
	o.gateway.readyz(t, 200)
	insertRow(t, open(t, o.database), "after")
	for _, title := range append(acknowledged, "after") {
		live.untilTitle(t, title)
		back.untilTitle(t, title)
	}
}

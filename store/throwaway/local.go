package throwaway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

const portTries = 5 // the port that the system chose may be taken before Postgres has it

// local runs the Postgres that is installed here, in a directory of its own.
func local(ctx context.Context) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	who, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, sweep, err := directory(who)
	if err != nil {
		return nil, err
	}
	remove := func(err error) (*Server, error) { return nil, errors.Join(err, sweep()) }
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres",
		"--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
	initdb.Dir, initdb.SysProcAttr = dir, attributes(who)
	if out, err := initdb.CombinedOutput(); err != nil {
		return remove(fmt.Errorf("initdb: %w: %s", err, lastLine(out)))
	}
	if err := configure(data); err != nil {
		return remove(err)
	}
	c := &cluster{bin: bin, dir: dir, data: data, who: who}
	for try := 1; ; try++ {
		if c.port, err = freePort(); err != nil {
			return remove(err)
		}
		if err = c.start(ctx); err == nil {
			return c.server(sweep), nil
		}
		if try == portTries || ctx.Err() != nil {
			return remove(err)
		}
	}
}

// configure writes the settings of a throw-away server into its file, where
// ALTER SYSTEM can override them.
func configure(data string) error {
	f, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	_, err = f.WriteString("\nfsync = off\nfull_page_writes = off\nmax_connections = 200\nmax_prepared_transactions = 20\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return nil
}

// directory makes a directory for a server that runs as who, nil for ourselves,
// and sees that it goes, see sweeper.
func directory(who *syscall.Credential) (dir string, sweep func() error, err error) {
	if dir, err = os.MkdirTemp("", "notification-gateway-postgres-"); err != nil {
		return "", nil, fmt.Errorf("make a directory: %w", err)
	}
	if sweep, err = sweeper(dir); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	if who != nil {
		if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
			return "", nil, errors.Join(fmt.Errorf("give the directory away: %w", err), sweep())
		}
	}
	return dir, sweep, nil
}

// sweeper makes sure that dir goes, also when this process is killed: a shell
// waits for the end of a pipe that only we hold open, then for the server's
// lock file to go, and removes dir. The function it returns lets it do so and
// waits.
func sweeper(dir string) (sweep func() error, err error) {
	cmd := exec.Command("/bin/sh", "-c",
		`cat; n=0; while [ -e "$0/data/postmaster.pid" ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done; rm -rf "$0"`, dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // out of reach of the terminal's Ctrl-C
	held, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the sweeper: %w", err)
	}
	return sync.OnceValue(func() error {
		held.Close() // its end is the signal
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
		return nil
	}), nil
}

// StartTied starts cmd out of reach of the terminal's Ctrl-C and, on Linux, so
// that it ends with this process, however that dies. It waits for cmd itself;
// exited is closed when cmd has ended.
func StartTied(cmd *exec.Cmd) (exited <-chan struct{}, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = attributes(nil)
	}
	started := make(chan error)
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread() // the parent-death signal is the thread's, see prctl(2)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended shows in its log
		}
		close(done)
	}()
	return done, <-started
}

// binaries finds the directory of initdb and postgres: on the path, else the
// newest version where Debian puts them.
func binaries() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		if _, err := exec.LookPath("initdb"); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("no Postgres is installed: %w", errNotHere)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

// unprivileged is who runs Postgres when we are root, which it refuses; nil
// means ourselves.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("no user postgres or nobody to run Postgres as: %w", errNotHere)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

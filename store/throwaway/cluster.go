package throwaway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	startDeadline = 30 * time.Second
	stopDeadline  = 10 * time.Second
)

// cluster is a server that runs from binaries on this machine, and which can
// therefore be crashed, started again and copied.
type cluster struct {
	bin, dir, data string
	who            *syscall.Credential
	port           int

	cmd    *exec.Cmd
	exited <-chan struct{}
}

// errNotLocal is said where a server must be one of our own processes.
var errNotLocal = errors.New("only a server that runs from local binaries can do that")

// StartLocal is Start for tests that crash and copy the server: it tries only
// the Postgres that is installed here.
func StartLocal(ctx context.Context) (*Server, error) { return local(ctx) }

func (c *cluster) server(sweep func() error) *Server {
	return &Server{
		URL:     c.url(),
		Source:  "local, from " + c.bin,
		cluster: c,
		stop:    func() error { return errors.Join(c.stop(), sweep()) },
	}
}

func (c *cluster) url() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", c.port)
}

// start starts the server process and waits until it answers.
func (c *cluster) start(ctx context.Context) error {
	var log bytes.Buffer
	cmd := exec.Command(filepath.Join(c.bin, "postgres"), "-D", c.data,
		"-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(c.port), "-c", "unix_socket_directories="+c.dir)
	cmd.Dir, cmd.SysProcAttr = c.dir, attributes(c.who)
	cmd.Stdout, cmd.Stderr = &log, &log
	exited, err := StartTied(cmd)
	if err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	c.cmd, c.exited = cmd, exited
	deadline, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	for {
		conn, err := pgx.Connect(deadline, c.url())
		if err == nil {
			conn.Close(ctx) // it was only to see
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("postgres exited: %s", lastLine(log.Bytes()))
		case <-deadline.Done():
			return errors.Join(fmt.Errorf("postgres does not answer: %w", err), c.stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop asks for a fast shutdown, then for an immediate one
// (https://www.postgresql.org/docs/current/server-shutdown.html).
func (c *cluster) stop() error {
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, os.Kill} {
		if c.signal(s) {
			return nil
		}
	}
	return errors.New("postgres does not end")
}

// signal reports whether the server ended of it.
func (c *cluster) signal(s os.Signal) bool {
	_ = c.cmd.Process.Signal(s) // it may be gone already
	select {
	case <-c.exited:
		return true
	case <-time.After(stopDeadline):
		return false
	}
}

// Crash stops the server immediately, without a checkpoint, as a crash would.
func (s *Server) Crash() error {
	if s.cluster == nil {
		return errNotLocal
	}
	if !s.cluster.signal(syscall.SIGQUIT) {
		return errors.New("postgres does not end")
	}
	return nil
}

// Shutdown stops the server cleanly; Restart starts it again.
func (s *Server) Shutdown() error {
	if s.cluster == nil {
		return errNotLocal
	}
	return s.cluster.stop()
}

// Restart starts a stopped server again, at the same address.
func (s *Server) Restart(ctx context.Context) error {
	if s.cluster == nil {
		return errNotLocal
	}
	return s.cluster.start(ctx)
}

// Standby makes a server that follows s asynchronously; the caller stops it,
// and s after it. For the copy s is stopped and started again.
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	if s.cluster == nil {
		return nil, errNotLocal
	}
	from := s.cluster
	dir, sweep, err := directory(from.who)
	if err != nil {
		return nil, err
	}
	c := &cluster{bin: from.bin, dir: dir, data: filepath.Join(dir, "data"), who: from.who}
	if err := from.copyTo(ctx, c); err != nil {
		return nil, errors.Join(err, sweep())
	}
	return c.server(sweep), nil
}

// copyTo makes c a standby of from and starts both.
func (from *cluster) copyTo(ctx context.Context, c *cluster) error {
	if err := from.stop(); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", from.data, c.data).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the cluster: %w: %s", err, lastLine(out))
	}
	u, err := url.Parse(from.url())
	if err != nil {
		return fmt.Errorf("parse the primary's address: %w", err)
	}
	settings := fmt.Sprintf("primary_conninfo = 'host=%s port=%s user=postgres'\n", u.Hostname(), u.Port())
	for file, text := range map[string]string{"postgresql.auto.conf": settings, "standby.signal": ""} {
		if err := os.WriteFile(filepath.Join(c.data, file), []byte(text), 0o644); err != nil {
			return fmt.Errorf("make a standby: %w", err)
		}
	}
	if c.port, err = freePort(); err != nil {
		return err
	}
	return errors.Join(from.start(ctx), c.start(ctx))
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const (
	module        = "github.com/seed-64e334f9/notification-gateway"
	startDeadline = 30 * time.Second
	crmUsers      = 20_000 // employees 1 and up of the reference CRM
	crmRows       = 50_000 // notifications of before: an empty table has other query plans
	crmTasks      = 1000
	template      = "notification_gateway_bench"
	streamPath    = "/api/notifications/stream/"
)

// bench is what all sections of a report share: Postgres, a database to copy,
// and the program under test.
type bench struct {
	server *throwaway.Server
	binary string
	dir    string
	secret string
	say    func(format string, args ...any)
	made   int // databases
}

// startBench builds the gateway and loads the reference CRM.
func startBench(ctx context.Context, secret string, say func(string, ...any)) (b *bench, err error) {
	b = &bench{secret: secret, say: say}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop(ctx))
		}
	}()
	if b.dir, err = os.MkdirTemp("", "notification-gateway-bench-"); err != nil {
		return b, fmt.Errorf("make a directory: %w", err)
	}
	b.binary = filepath.Join(b.dir, "gateway")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.binary, module+"/cmd/gateway").CombinedOutput(); err != nil {
		return b, fmt.Errorf("build the gateway: %w\n%s", err, out)
	}
	if b.server, err = throwaway.Start(ctx, say); err != nil {
		return b, err
	}
	url, err := b.server.CreateDatabase(ctx, template, "")
	if err != nil {
		return b, err
	}
	db, err := throwaway.Open(ctx, url)
	if err != nil {
		return b, err
	}
	defer db.Close()
	people := fmt.Sprintf(`INSERT INTO employees (id, first_name, last_name, email) SELECT i, 'F', 'L', i || '@example.com' FROM generate_series(1, %[1]d) i;
		INSERT INTO notifications (user_id, notification_type, title, message, is_read)
			SELECT 1 + i %% %[1]d, 'bench', 'old', 'old', true FROM generate_series(1, %[2]d) i;
		INSERT INTO tasks (title, description, due_date, due_time) SELECT 'Complete project ' || i, 'Finish the project documentation', '2024-01-15', '17:00' FROM generate_series(1, %[3]d) i;
		ANALYZE`, crmUsers, crmRows, crmTasks)
	for _, script := range []string{sql.ReferenceCRM, people} {
		if err := db.Exec(ctx, script); err != nil {
			return b, fmt.Errorf("load the reference CRM: %w", err)
		}
	}
	for _, args := range [][]string{{"migrate", "--mapping", "reference_crm"}, {"attach", "public.notifications"}} {
		cmd := exec.CommandContext(ctx, b.binary, args...)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+url)
		if out, err := cmd.CombinedOutput(); err != nil {
			return b, fmt.Errorf("gateway %s: %w\n%s", args[0], err, out)
		}
	}
	return b, nil
}

// stop takes everything away.
func (b *bench) stop(ctx context.Context) error {
	var all error
	if b.server != nil {
		all = errors.Join(b.server.DropDatabase(context.WithoutCancel(ctx), template), b.server.Stop())
	}
	if b.dir != "" {
		all = errors.Join(all, os.RemoveAll(b.dir))
	}
	return all
}

// site is one section's database with a gateway on it.
type site struct {
	db    *throwaway.DB // connected as the CRM would be
	dbURL string
	gateway
	drop func() error
}

// open makes a database and starts a gateway, with env added to its
// environment.
func (b *bench) open(ctx context.Context, env ...string) (*site, error) {
	s, err := b.empty(ctx)
	if err != nil {
		return nil, err
	}
	env = append([]string{
		"DATABASE_URL=" + s.dbURL, "GATEWAY_JWT_SECRET=" + b.secret, "GATEWAY_DRAIN=0s",
		"GATEWAY_MAX_STREAMS=" + strconv.Itoa(openFileLimit()-filesBeside),
	}, env...)
	if err := s.start(ctx, b.binary, env); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// empty makes a site whose gateway is not started.
func (b *bench) empty(ctx context.Context) (*site, error) {
	b.made++
	name := fmt.Sprintf("%s_%d", template, b.made)
	url, err := b.server.CreateDatabase(ctx, name, template)
	if err != nil {
		return nil, err
	}
	s := &site{dbURL: url, drop: func() error { return b.server.DropDatabase(context.WithoutCancel(ctx), name) }}
	if s.db, err = throwaway.Open(ctx, url); err != nil {
		return nil, errors.Join(err, s.drop())
	}
	return s, nil
}

func (s *site) close() error {
	err := s.gateway.stop()
	s.db.Close()
	return errors.Join(err, s.drop())
}

// gateway is a process of the program under test.
type gateway struct {
	cmd           *exec.Cmd
	exited        <-chan struct{}
	public, admin string // addresses
}

// start starts it and waits until it is ready.
func (g *gateway) start(ctx context.Context, binary string, env []string) error {
	cmd := exec.Command(binary, "serve")
	for _, v := range os.Environ() { // what is set for this shell's gateway is not for ours
		if !strings.HasPrefix(v, "GATEWAY_") && !strings.HasPrefix(v, "DATABASE_URL") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, "GATEWAY_ADDR=127.0.0.1:0", "GATEWAY_ADMIN_ADDR=127.0.0.1:0", "GATEWAY_LOG_FORMAT=json", "GATEWAY_LOG_LEVEL=info"), env...)
	log, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	exited, err := throwaway.StartTied(cmd)
	if err != nil {
		return fmt.Errorf("start the gateway: %w", err)
	}
	g.cmd, g.exited = cmd, exited
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	listening := make(chan struct{})
	go func() {
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var line struct{ Level, Msg, Addr string }
			if json.Unmarshal(lines.Bytes(), &line) != nil || line.Level != "INFO" && line.Level != "" {
				fmt.Fprintln(os.Stderr, "gateway:", lines.Text())
				continue
			}
			switch line.Msg {
			case "listening":
				g.public = line.Addr
			case "admin listening":
				g.admin = line.Addr
				close(listening) // it is said once
			}
		}
	}()
	select {
	case <-listening:
	case <-exited:
		return errors.New("the gateway ended at once")
	case <-ctx.Done():
		return fmt.Errorf("the gateway does not listen: %w", context.Cause(ctx))
	}
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.admin+"/readyz", nil)
		if err != nil {
			return fmt.Errorf("ask whether the gateway is ready: %w", err)
		}
		if resp, err := http.DefaultClient.Do(r); err == nil {
			resp.Body.Close() //nolint:errcheck // only the status counts
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(look):
		case <-exited:
			return errors.New("the gateway ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("the gateway does not become ready: %w", context.Cause(ctx))
		}
	}
}

func (g *gateway) pid() int { return g.cmd.Process.Pid }

func (g *gateway) target() target {
	return target{url: &url.URL{Scheme: "http", Host: g.public, Path: streamPath}, counted: "notification"}
}

// stop ends it; streams that are open are cut off.
func (g *gateway) stop() error {
	if g.cmd == nil {
		return nil
	}
	_ = g.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-g.exited:
		if code := g.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("the gateway ended with status %d", code)
		}
		return nil
	case <-time.After(startDeadline):
		return errors.Join(errors.New("the gateway does not end"), g.cmd.Process.Kill())
	}
}

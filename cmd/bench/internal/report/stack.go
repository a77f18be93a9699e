package report

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/proc"
	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
	"github.com/seed-64e334f9/notification-gateway/cmd/internal/process"
	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const (
	CRMUsers   = 20_000 // employees 1 and up of the reference CRM
	crmRows    = 50_000 // notifications of before: an empty table has other query plans
	crmTasks   = 1000
	template   = "notification_gateway_bench"
	StreamPath = "/api/notifications/stream/"
)

// Stack is what all sections of a report share: a Postgres server, a database to
// copy, and the program under test.
type Stack struct {
	server *throwaway.Server
	binary string
	dir    string
	secret string
	say    func(format string, args ...any)
	made   int // databases
}

// StartStack builds the gateway and loads the reference CRM.
func StartStack(ctx context.Context, secret string, say func(string, ...any)) (b *Stack, err error) {
	b = &Stack{secret: secret, say: say}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Stop(ctx))
		}
	}()
	if b.dir, err = os.MkdirTemp("", "notification-gateway-bench-"); err != nil {
		return b, fmt.Errorf("make a directory: %w", err)
	}
	if b.binary, err = process.Build(ctx, b.dir); err != nil {
		return b, err
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
		ANALYZE`, CRMUsers, crmRows, crmTasks)
	for _, script := range []string{sql.ReferenceCRM, people} {
		if err := db.Exec(ctx, script); err != nil {
			return b, fmt.Errorf("load the reference CRM: %w", err)
		}
	}
	for _, args := range [][]string{{"migrate", "--mapping", "reference_crm"}, {"attach", "public.notifications"}} {
		if err := process.Run(ctx, b.binary, append(os.Environ(), "DATABASE_URL="+url), args...); err != nil {
			return b, err
		}
	}
	return b, nil
}

// Stop removes everything that the stack has made.
func (b *Stack) Stop(ctx context.Context) error {
	var all error
	if b.server != nil {
		all = errors.Join(b.server.DropDatabase(context.WithoutCancel(ctx), template), b.server.Stop())
	}
	if b.dir != "" {
		all = errors.Join(all, os.RemoveAll(b.dir))
	}
	return all
}

// Environment is one section's database with a gateway on it.
type Environment struct {
	db          *throwaway.DB // connected as the CRM would be
	DatabaseURL string
	gateway
	drop func() error
}

// Open makes a database and starts a gateway, with env added to its variables.
func (b *Stack) Open(ctx context.Context, env ...string) (*Environment, error) {
	s, err := b.empty(ctx)
	if err != nil {
		return nil, err
	}
	env = append([]string{
		"DATABASE_URL=" + s.DatabaseURL, "GATEWAY_JWT_SECRET=" + b.secret, "GATEWAY_RECIPIENT=claim", "GATEWAY_DRAIN=0s",
		"GATEWAY_MAX_STREAMS=" + strconv.Itoa(proc.OpenFileLimit()-swarm.OtherFiles),
	}, env...)
	if err := s.start(ctx, b.binary, env); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// empty makes an environment whose gateway is not started.
func (b *Stack) empty(ctx context.Context) (*Environment, error) {
	b.made++
	name := fmt.Sprintf("%s_%d", template, b.made)
	url, err := b.server.CreateDatabase(ctx, name, template)
	if err != nil {
		return nil, err
	}
	s := &Environment{DatabaseURL: url, drop: func() error { return b.server.DropDatabase(context.WithoutCancel(ctx), name) }}
	if s.db, err = throwaway.Open(ctx, url); err != nil {
		return nil, errors.Join(err, s.drop())
	}
	return s, nil
}

func (s *Environment) Close() error {
	err := s.gateway.stop()
	s.db.Close()
	return errors.Join(err, s.drop())
}

// gateway is a process of the program under test.
type gateway struct {
	*process.Gateway // nil before start
}

// start starts it and waits until it is ready.
func (g *gateway) start(ctx context.Context, binary string, env []string) (err error) {
	var environment []string
	for _, v := range os.Environ() { // what is set for this shell's gateway is not for ours
		if !strings.HasPrefix(v, "GATEWAY_") && !strings.HasPrefix(v, "DATABASE_URL") {
			environment = append(environment, v)
		}
	}
	g.Gateway, err = process.Start(ctx, binary, append(environment, env...), func(line string) { fmt.Fprintln(os.Stderr, "gateway:", line) })
	return err
}

// Target is the stream of its public listener.
func (g *gateway) Target() swarm.Target {
	return swarm.Target{URL: &url.URL{Scheme: "http", Host: g.Public, Path: StreamPath}, Counted: "notification"}
}

// stop ends it; streams that are open are cut off.
func (g *gateway) stop() error {
	if g.Gateway == nil {
		return nil
	}
	return g.Stop()
}

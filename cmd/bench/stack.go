package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/seed-64e334f9/notification-gateway/cmd/internal/process"
	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const (
	crmUsers   = 20_000 // employees 1 and up of the reference CRM
	crmRows    = 50_000 // notifications of before: an empty table has other query plans
	crmTasks   = 1000
	template   = "notification_gateway_bench"
	streamPath = "/api/notifications/stream/"
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
		ANALYZE`, crmUsers, crmRows, crmTasks)
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
		"DATABASE_URL=" + s.dbURL, "GATEWAY_JWT_SECRET=" + b.secret, "GATEWAY_RECIPIENT=claim", "GATEWAY_DRAIN=0s",
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

func (g *gateway) target() target {
	return target{url: &url.URL{Scheme: "http", Host: g.Public, Path: streamPath}, counted: "notification"}
}

// stop ends it; streams that are open are cut off.
func (g *gateway) stop() error {
	if g.Gateway == nil {
		return nil
	}
	return g.Stop()
}

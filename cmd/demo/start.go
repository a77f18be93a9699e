//go:build !beside

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/seed-64e334f9/notification-gateway/cmd/internal/process"
	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const database = "notification_gateway_demo"

// startStack brings everything up; env is added to the gateway's environment.
// What was started is stopped again when something fails.
func startStack(ctx context.Context, env []string, say func(string, ...any)) (_ *stack, err error) {
	s := &stack{secret: []byte(rand.Text() + rand.Text())}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	server, err := throwaway.Start(ctx, say)
	if err != nil {
		return nil, err
	}
	s.later(server.Stop)
	address, err := server.CreateDatabase(ctx, database, "")
	if err != nil {
		return nil, err
	}
	s.later(func() error { return server.DropDatabase(context.WithoutCancel(ctx), database) })
	if s.crm, err = throwaway.Open(ctx, address); err != nil {
		return nil, err
	}
	s.later(func() error { s.crm.Close(); return nil })
	say("CRM: loading the tables, people, tasks and leads")
	for _, script := range []string{sql.ReferenceCRM, peopleSQL} {
		if err := s.crm.Exec(ctx, script); err != nil {
			return nil, fmt.Errorf("load the reference CRM: %w", err)
		}
	}
	say("gateway: building")
	dir, err := os.MkdirTemp("", "notification-gateway-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	s.later(func() error { return os.RemoveAll(dir) })
	binary, err := process.Build(ctx, dir)
	if err != nil {
		return nil, err
	}
	environment := append(os.Environ(),
		"DATABASE_URL="+address, "GATEWAY_JWT_SECRET="+string(s.secret), "GATEWAY_COOKIE_INSECURE=true",
		"GATEWAY_DRAIN=3s", "GATEWAY_MAX_STREAMS=1000")
	environment = append(environment, env...)
	for _, args := range [][]string{
		{"migrate", "--mapping", "reference_crm"},
		{"attach", "public.notifications", "--on-update", "is_read,title,message", "--on-delete"},
	} {
		say("gateway: %v", args)
		if err := process.Run(ctx, binary, environment, args...); err != nil {
			return nil, err
		}
	}
	say("gateway: serve, two replicas")
	gateways, err := startReplicas(ctx, func(ctx context.Context) (*process.Gateway, error) {
		return process.Start(ctx, binary, environment, func(line string) { fmt.Fprintln(os.Stderr, line) })
	})
	if err != nil {
		return nil, err
	}
	s.later(gateways.stop)
	s.address, s.exited, s.killReplica = gateways.address, gateways.failed, gateways.kill
	s.restartPostgres = func(ctx context.Context) error { return restart(ctx, server, s.crm) }
	return s, nil
}

// restart shuts the server down and starts it again. Where it is not our own
// process, the sessions of the gateways are ended instead.
func restart(ctx context.Context, server *throwaway.Server, crm *throwaway.DB) error {
	if err := server.Shutdown(); err != nil {
		return crm.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'notification_gateway' AND datname = current_database()")
	}
	defer crm.Reset()
	return server.Restart(ctx)
}

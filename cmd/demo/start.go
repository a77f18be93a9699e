//go:build !beside

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
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
		"DATABASE_URL="+address, "GATEWAY_JWT_SECRET="+string(s.secret), "GATEWAY_RECIPIENT=claim", "GATEWAY_COOKIE_INSECURE=true",
		"GATEWAY_DRAIN=3s", "GATEWAY_MAX_STREAMS=1000")
	environment = append(environment, env...)
	for _, args := range [][]string{{"migrate", "--mapping", "reference_crm"}, {"attach", "public.notifications"}} {
		say("gateway: %v", args)
		if err := process.Run(ctx, binary, environment, args...); err != nil {
			return nil, err
		}
	}
	say("gateway: serve")
	gateway, err := process.Start(ctx, binary, environment, func(line string) { fmt.Fprintln(os.Stderr, line) })
	if err != nil {
		return nil, err
	}
	s.later(gateway.Stop)
	s.public, s.exited = &url.URL{Scheme: "http", Host: gateway.Public}, gateway.Exited
	return s, nil
}

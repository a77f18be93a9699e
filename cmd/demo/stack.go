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

// stack is everything behind the page: Postgres, the CRM's tables, the gateway.
type stack struct {
	crm     *throwaway.DB    // connected as the CRM would be
	secret  []byte           // shared with the gateway
	public  *url.URL         // the gateway's, or that of a proxy in front of several
	gateway *process.Gateway // nil where others run it

	cleanups []func() error // in reverse order
}

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
	if s.gateway, err = process.Start(ctx, binary, environment, func(line string) { fmt.Fprintln(os.Stderr, line) }); err != nil {
		return nil, err
	}
	s.later(s.gateway.Stop)
	s.public = &url.URL{Scheme: "http", Host: s.gateway.Public}
	return s, nil
}

// ended is closed when the gateway of this stack has ended by itself.
func (s *stack) ended() <-chan struct{} {
	if s.gateway == nil {
		return nil
	}
	return s.gateway.Exited
}

func (s *stack) later(f func() error) { s.cleanups = append(s.cleanups, f) }

// stop takes everything away in the reverse order.
func (s *stack) stop() error {
	var all error
	for i := len(s.cleanups) - 1; i >= 0; i-- {
		all = errors.Join(all, s.cleanups[i]())
	}
	s.cleanups = nil
	return all
}

package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const (
	module        = "github.com/seed-64e334f9/notification-gateway"
	readyDeadline = 30 * time.Second
	stopDeadline  = 15 * time.Second
	database      = "notification_gateway_demo"
)

// stack is everything behind the page: Postgres, the CRM's tables, the gateway.
type stack struct {
	crm          *throwaway.DB // connected as the CRM would be
	secret       []byte        // shared with the gateway
	gatewayURL   string
	gateway      *exec.Cmd
	gatewayEnded <-chan struct{}

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
	url, err := server.CreateDatabase(ctx, database, "")
	if err != nil {
		return nil, err
	}
	s.later(func() error { return server.DropDatabase(context.WithoutCancel(ctx), database) })
	if s.crm, err = throwaway.Open(ctx, url); err != nil {
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
	binary := filepath.Join(dir, "gateway")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, module+"/cmd/gateway").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the gateway: %w\n%s", err, out)
	}
	environment := append(os.Environ(),
		"DATABASE_URL="+url, "GATEWAY_JWT_SECRET="+string(s.secret), "GATEWAY_COOKIE_INSECURE=true",
		"GATEWAY_ADDR=127.0.0.1:0", "GATEWAY_ADMIN_ADDR=127.0.0.1:0", "GATEWAY_LOG_FORMAT=json", "GATEWAY_LOG_LEVEL=info", "GATEWAY_DRAIN=3s", "GATEWAY_MAX_STREAMS=1000")
	environment = append(environment, env...)
	for _, args := range [][]string{{"migrate", "--mapping", "reference_crm"}, {"attach", "public.notifications"}} {
		say("gateway: %v", args)
		cmd := exec.CommandContext(ctx, binary, args...)
		cmd.Env = environment
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("gateway %s: %w\n%s", args[0], err, out)
		}
	}
	say("gateway: serve")
	return s, s.serve(ctx, binary, environment)
}

// serve starts the gateway and waits until it is ready.
func (s *stack) serve(ctx context.Context, binary string, environment []string) error {
	s.gateway = exec.Command(binary, "serve")
	s.gateway.Env = environment
	reader, writer, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	s.gateway.Stderr = writer
	s.gatewayEnded, err = throwaway.StartTied(s.gateway)
	writer.Close() //nolint:errcheck // the child has its own
	if err != nil {
		return fmt.Errorf("start the gateway: %w", err)
	}
	s.later(s.stopGateway)
	addresses := make(chan [2]string, 1) // one: public and admin, once
	go func() {
		var found [2]string
		for lines := bufio.NewScanner(reader); lines.Scan(); {
			var line struct{ Level, Msg, Addr string }
			if json.Unmarshal(lines.Bytes(), &line) != nil {
				fmt.Fprintln(os.Stderr, lines.Text())
				continue
			}
			switch line.Msg {
			case "listening":
				found[0] = line.Addr
			case "admin listening":
				found[1] = line.Addr
				addresses <- found
			default:
				if line.Level != "INFO" {
					fmt.Fprintln(os.Stderr, lines.Text())
				}
			}
		}
		reader.Close() //nolint:errcheck // it was only read
	}()
	ctx, cancel := context.WithTimeout(ctx, readyDeadline)
	defer cancel()
	var found [2]string
	select {
	case found = <-addresses:
	case <-s.gatewayEnded:
		return errors.New("the gateway ended at once")
	case <-ctx.Done():
		return fmt.Errorf("the gateway does not listen: %w", context.Cause(ctx))
	}
	s.gatewayURL = "http://" + found[0]
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+found[1]+"/readyz", nil)
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
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the gateway does not become ready: %w", context.Cause(ctx))
		}
	}
}

func (s *stack) stopGateway() error {
	_ = s.gateway.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-s.gatewayEnded:
		if code := s.gateway.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("the gateway ended with status %d", code)
		}
		return nil
	case <-time.After(stopDeadline):
		return errors.Join(errors.New("the gateway does not end"), s.gateway.Process.Kill())
	}
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

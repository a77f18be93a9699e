// Command demo shows the whole thing with one command: a throw-away Postgres
// with the reference CRM, the real gateway as users would run it, and a page
// with two users side by side. Ctrl-C leaves nothing behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run shows the demo until ctx ends: exit status 0 after a clean end, 1 when
// something failed, 2 for a bad flag.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	addr := fs.String("addr", "127.0.0.1:8080", "`address` of the page")
	gateway := fs.String("gateway", "", "`URL` of gateways that run already, beside which it plays the CRM; their DATABASE_URL and GATEWAY_JWT_SECRET must be set")
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stdout, "demo [-addr 127.0.0.1:8080] [-gateway URL]: live notifications on a page, from a Postgres of its own")
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return 0
	case err == nil && fs.NArg() > 0:
		err = fmt.Errorf("takes no argument, got %q", fs.Arg(0))
		fallthrough
	case err != nil:
		fmt.Fprintln(stderr, "demo:", err)
		return 2
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		fmt.Fprintf(stderr, "demo: %v; choose another with bin/demo -addr 127.0.0.1:0\n", err)
		return 1
	}
	defer listener.Close()
	say := func(format string, args ...any) { fmt.Fprintf(stdout, format+"\n", args...) }
	var s *stack
	if *gateway == "" {
		s, err = startStack(ctx, nil, say)
	} else {
		s, err = besideGateway(ctx, *gateway)
	}
	if err != nil {
		if ctx.Err() == nil {
			fmt.Fprintln(stderr, "demo:", err)
			return 1
		}
		return 0
	}
	defer func() {
		if err := s.stop(); err != nil {
			fmt.Fprintln(stderr, "demo:", err)
		}
	}()
	p := newPage(s)
	base := "http://" + listener.Addr().String()
	if s.exited == nil {
		say("The page is at %s/", base)
	} else {
		say("\nThe demo is at %s/ (Ctrl-C ends it and takes everything away)\n", base)
		if token, err := p.token(people[0]); err == nil {
			say("The same stream in a terminal:\n  curl -N '%s/api/notifications/stream/?token=%s'\n", base, token)
		}
	}
	server := &http.Server{Handler: p.handler(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case <-ctx.Done():
	case err = <-failed:
		fmt.Fprintln(stderr, "demo:", err)
	case <-s.exited:
		err = errors.New("the gateway ended by itself")
		fmt.Fprintln(stderr, "demo:", err)
	}
	server.Close() // streams are cut off
	if err != nil {
		return 1
	}
	return 0
}

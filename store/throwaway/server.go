// Package throwaway finds or fetches a Postgres server that the demo and the
// tests may do anything with, and takes it away again.
//
// It tries, in this order: the server that DATABASE_URL names; a container,
// when a Docker engine answers; the Postgres that is installed here; a
// download. NOTIFICATION_GATEWAY_POSTGRES=url|container|local|download asks
// for one of them alone. It says what it chose.
package throwaway

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// Server is a running Postgres. Whoever started it stops it.
type Server struct {
	URL    string // of the database postgres, as a superuser
	Source string // what was chosen, in words; never a credential

	cluster *cluster // nil unless the server is our own process

	stop func() error // nil for a server that is not ours
	once sync.Once
	err  error // of stop; set once
}

// errNotHere says that a way to a Postgres does not exist on this machine, and
// the next may be tried.
var errNotHere = errors.New("not on this machine")

// Start finds or fetches a Postgres and waits until it answers. logf is told
// what was chosen and what was passed over.
func Start(ctx context.Context, logf func(format string, args ...any)) (*Server, error) {
	ways := []struct {
		name  string
		start func(context.Context) (*Server, error)
	}{{"url", given}, {"container", container}, {"local", local}, {"download", download}}
	only := os.Getenv("NOTIFICATION_GATEWAY_POSTGRES")
	var passed []string
	for _, way := range ways {
		if only != "" && only != way.name {
			continue
		}
		s, err := way.start(ctx)
		if err == nil {
			logf("Postgres: %s", s.Source)
			return s, nil
		}
		passed = append(passed, way.name+": "+err.Error())
		if !errors.Is(err, errNotHere) {
			logf("Postgres: passed over: %s: %v", way.name, err)
		}
	}
	if len(passed) == 0 {
		return nil, fmt.Errorf("NOTIFICATION_GATEWAY_POSTGRES=%s: must be url, container, local or download", only)
	}
	return nil, fmt.Errorf("no Postgres: set DATABASE_URL, start Docker, or install the package postgresql (%s)", strings.Join(passed, "; "))
}

// Required reports whether a test fails, rather than is skipped, that gets no
// server: in CI, and where one way to it was asked for.
func Required() bool {
	return os.Getenv("CI") == "true" || os.Getenv("NOTIFICATION_GATEWAY_POSTGRES") != ""
}

// Stop ends the server and removes its files; a server that DATABASE_URL names
// is left running. It may be called more than once.
func (s *Server) Stop() error {
	s.once.Do(func() {
		if s.stop != nil {
			s.err = s.stop()
		}
	})
	return s.err
}

// CreateDatabase makes a database, as a copy of template unless that is empty,
// and returns its URL.
func (s *Server) CreateDatabase(ctx context.Context, name, template string) (string, error) {
	statement := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize()
	if template != "" {
		statement += " TEMPLATE " + pgx.Identifier{template}.Sanitize()
	}
	if err := s.exec(ctx, statement); err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme == "" {
		return "", errors.New("the server's address is not written as a URL")
	}
	u.Path = "/" + name
	return u.String(), nil
}

// DropDatabase removes a database and ends its connections.
func (s *Server) DropDatabase(ctx context.Context, name string) error {
	if err := s.exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

func (s *Server) exec(ctx context.Context, statement string) error {
	conn, err := connect(ctx, s.URL)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) // nothing is owed to a connection that is done
	_, err = conn.Exec(ctx, statement)
	return err
}

// connect reads a connection string as the gateway does, with the schemes and the
// parameters of other libraries.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	c, _, err := pg.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, c)
}

// given is the server that DATABASE_URL names.
func given(ctx context.Context) (*Server, error) {
	address := os.Getenv("DATABASE_URL")
	if address == "" {
		return nil, fmt.Errorf("DATABASE_URL is not set: %w", errNotHere)
	}
	c, _, err := pg.ParseURL(address)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	where := fmt.Sprintf("%s, port %d", c.Host, c.Port)
	s := &Server{URL: address, Source: "YOUR OWN SERVER, because DATABASE_URL is set (" + where +
		"): databases are made there and dropped again; the role notification_gateway_owner stays"}
	err = s.exec(ctx, "SELECT 1")
	var refused *pgconn.ConnectError
	if errors.As(err, &refused) { // whose text shows user and database, and has a line for each try
		err = errors.New(lastLine([]byte(refused.Unwrap().Error())))
	}
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL (%s): %w", where, err)
	}
	return s, nil
}

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// prepare sets what every connection of the gateway has. Only what a pooler
// passes on may stand in the start-up packet, and nothing is prepared by name
// until it is known that a session stays with one server process
// (https://www.pgbouncer.org/features.html#sql-feature-map-for-pooling-modes).
func prepare(c *pgx.ConnConfig) {
	c.RuntimeParams["application_name"] = ApplicationName
	c.RuntimeParams["timezone"] = "UTC"
	c.RuntimeParams["client_encoding"] = "UTF8" // whatever the database's is: streams and JSON are UTF-8
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
}

// isDirect reports whether conn's server process is the one that greeted it: a
// pooler greets with a process ID of its own making.
func isDirect(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		return false, fmt.Errorf("ask for the server process: %w", err)
	}
	return pid == conn.PgConn().PID(), nil
}

// tune makes plans that do not depend on the parameters (a batch of one and a
// batch of a thousand use the same index). It changes the session, so it is
// not for one that a pooler lends to others.
func tune(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.PgConn().Exec(ctx, "SET jit = off; SET plan_cache_mode = force_generic_plan").ReadAll(); err != nil {
		return fmt.Errorf("set the planner up: %w", err)
	}
	return nil
}

// mode is how statements are sent on a session: prepared by name where it
// stays with one server process, else anew each time.
func mode(direct bool) pgx.QueryExecMode {
	if direct {
		return pgx.QueryExecModeCacheStatement
	}
	return pgx.QueryExecModeExec
}

func (s *Store) query(ctx context.Context, statement string, args ...any) (pgx.Rows, error) {
	rows, err := s.pool.Query(ctx, statement, append([]any{mode(s.direct.Load())}, args...)...)
	return rows, connectCause(err)
}

func (s *Store) queryRow(ctx context.Context, statement string, args ...any) pgx.Row {
	return row{s.pool.QueryRow(ctx, statement, append([]any{mode(s.direct.Load())}, args...)...)}
}

// row is a pgx.Row whose error may be logged.
type row struct{ pgx.Row }

func (r row) Scan(into ...any) error { return connectCause(r.Row.Scan(into...)) }

func (s *Store) exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	tag, err := s.pool.Exec(ctx, statement, append([]any{mode(s.direct.Load())}, args...)...)
	return tag, connectCause(err)
}

// connect opens one connection for an administrator's command.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the connection string cannot be parsed")
	}
	prepare(c)
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", connectCause(err))
	}
	return conn, nil
}

// connectCause drops the user, host and database that pgx puts in front of
// the reason: a log shows the reason, never the connection string.
func connectCause(err error) error {
	var refused *pgconn.ConnectError
	if errors.As(err, &refused) {
		return refused.Unwrap()
	}
	return err
}

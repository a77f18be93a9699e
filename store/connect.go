package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	c.RuntimeParams["datestyle"] = "ISO"                  // which pgx reads
	c.RuntimeParams["client_encoding"] = "UTF8"           // whatever the database's is: streams and JSON are UTF-8
	c.RuntimeParams["standard_conforming_strings"] = "on" // for the patterns in our functions
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
// batch of a thousand use the same index), and leaves time limits to us: what the
// database or the role has for its applications would end the feed while it waits
// to be rung, and fail a whole batch for a row that is slow. It changes the
// session, so it is not for one that a pooler lends to others.
func tune(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.PgConn().Exec(ctx, `SET jit = off; SET plan_cache_mode = force_generic_plan; SET statement_timeout = 0; SET lock_timeout = 0;
		SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0;
		SELECT set_config('transaction_timeout', '0', false) WHERE current_setting('transaction_timeout', true) IS NOT NULL -- since 17`).ReadAll()
	if err != nil {
		return fmt.Errorf("set the session up: %w", err)
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

// connectCause drops the user and database that pgx puts in front of the
// reason: a log shows the reason, never the connection string.
func connectCause(err error) error {
	var refused *pgconn.ConnectError
	if errors.As(err, &refused) {
		return connectError{refused.Unwrap()}
	}
	return err
}

// connectError is why no connection was had. pgx tries every address, with TLS
// and without where sslmode allows both, and has a line for each try.
type connectError struct{ error }

func (e connectError) Unwrap() error { return e.error }

// Error is one line: each reason once, behind the addresses that gave it. That
// a server has no TLS is none where something else failed too.
func (e connectError) Error() string {
	const noTLS = "tls error: server refused TLS connection"
	var reasons []string
	at := map[string][]string{} // addresses by reason
	for line := range strings.SplitSeq(e.error.Error(), "\n") {
		address, rest, tried := strings.Cut(line, " (")
		_, reason, named := strings.Cut(rest, "): ") // the host's name
		if !tried || !named {
			address, reason = "", strings.TrimPrefix(line, "hostname resolving error: ")
		}
		reason = strings.Replace(reason, " "+address+":", ":", 1)
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
		if address != "" && !slices.Contains(at[reason], address) {
			at[reason] = append(at[reason], address)
		}
	}
	if len(reasons) > 1 {
		reasons = slices.DeleteFunc(reasons, func(r string) bool { return r == noTLS })
	}
	for i, r := range reasons {
		if len(at[r]) > 0 {
			reasons[i] = strings.Join(at[r], ", ") + ": " + r
		}
	}
	return strings.Join(reasons, "; ")
}

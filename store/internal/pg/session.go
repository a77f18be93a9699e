package pg

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Session is one connection for an administrator's command. Every statement of
// it runs under PinnedPath, also through a pooler.
type Session struct {
	conn    *pgx.Conn
	pinned  bool   // the session is ours and its path pinned; else a pooler's
	OwnPath string // search_path of the role, by which it names its tables
}

// Connect opens a Session.
func Connect(ctx context.Context, url string) (*Session, error) {
	c, _, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	Prepare(c)
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", ConnectCause(err))
	}
	s := &Session{conn: conn}
	if err := s.pin(ctx); err != nil {
		s.Close(ctx)
		return nil, err
	}
	return s, nil
}

func (s *Session) pin(ctx context.Context) error {
	var pid uint32
	if err := s.conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('search_path'::text)").Scan(&pid, &s.OwnPath); err != nil {
		return fmt.Errorf("ask for the server process: %w", err)
	}
	if s.pinned = pid == s.conn.PgConn().PID(); !s.pinned {
		return nil
	}
	if _, err := s.conn.Exec(ctx, "SET search_path = "+PinnedPath); err != nil {
		return fmt.Errorf("pin the search path: %w", err)
	}
	return nil
}

// Close ends the connection.
func (s *Session) Close(ctx context.Context) {
	s.conn.Close(context.WithoutCancel(ctx)) // nothing is owed to a connection that is done
}

// Query sends a statement under the pinned path.
func (s *Session) Query(ctx context.Context, statement string, args ...any) (pgx.Rows, error) {
	if s.pinned {
		return s.conn.Query(ctx, statement, args...)
	}
	return Query(ctx, s.conn, false, statement, args...)
}

// QueryRow is Query for a statement that gives one row.
func (s *Session) QueryRow(ctx context.Context, statement string, args ...any) pgx.Row {
	rows, err := s.Query(ctx, statement, args...)
	return oneRow{rows, err}
}

// Exec is Query for a statement that gives no row.
func (s *Session) Exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	if s.pinned {
		return s.conn.Exec(ctx, statement, args...)
	}
	return Exec(ctx, s.conn, false, statement, args...)
}

// WaitForNotification waits for a notification on a channel that was listened to.
func (s *Session) WaitForNotification(ctx context.Context) error {
	_, err := s.conn.WaitForNotification(ctx)
	return err
}

// Begin runs change in one transaction, whose path is pinned, and commits it.
func (s *Session) Begin(ctx context.Context, change func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		if err := Pin(ctx, tx); err != nil {
			return err
		}
		return change(tx)
	})
}

// Pin pins the path for the rest of a transaction.
func Pin(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, PinSQL); err != nil {
		return fmt.Errorf("pin the search path: %w", err)
	}
	return nil
}

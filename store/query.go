package store

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

func (s *Store) query(ctx context.Context, statement string, args ...any) (pgx.Rows, error) {
	rows, err := s.pool.Query(ctx, statement, append([]any{pg.ExecMode(s.direct.Load())}, args...)...)
	return rows, pg.ConnectCause(err)
}

func (s *Store) queryRow(ctx context.Context, statement string, args ...any) pgx.Row {
	return row{s.pool.QueryRow(ctx, statement, append([]any{pg.ExecMode(s.direct.Load())}, args...)...)}
}

// row is a pgx.Row whose error may be logged.
type row struct{ pgx.Row }

func (r row) Scan(into ...any) error { return pg.ConnectCause(r.Row.Scan(into...)) }

func (s *Store) exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	tag, err := s.pool.Exec(ctx, statement, append([]any{pg.ExecMode(s.direct.Load())}, args...)...)
	return tag, pg.ConnectCause(err)
}

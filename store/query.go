package store

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

func (s *Store) query(ctx context.Context, statement string, args ...any) (pgx.Rows, error) {
	rows, err := pg.Query(ctx, s.pool, s.direct.Load(), statement, args...)
	return rows, pg.ConnectCause(err)
}

func (s *Store) queryRow(ctx context.Context, statement string, args ...any) pgx.Row {
	return row{pg.QueryRow(ctx, s.pool, s.direct.Load(), statement, args...)}
}

// row is a pgx.Row whose error may be logged.
type row struct{ pgx.Row }

func (r row) Scan(into ...any) error { return pg.ConnectCause(r.Row.Scan(into...)) }

func (s *Store) exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	tag, err := pg.Exec(ctx, s.pool, s.direct.Load(), statement, args...)
	return tag, pg.ConnectCause(err)
}

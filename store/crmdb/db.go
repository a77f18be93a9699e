// Package crmdb writes into a CRM's database as the CRM would, for the demo and
// the tests. It knows nothing of the gateway's objects.
package crmdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// DB is a CRM's database to write into.
type DB struct{ pool *pgxpool.Pool }

// Open opens a pool of connections, and makes them when they are needed. url may
// have any form that the gateway reads.
func Open(ctx context.Context, url string) (*DB, error) {
	config, err := pg.ParsePoolURL(url)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return &DB{pool}, nil
}

// Exec runs statements; without arguments there may be several. Its error has
// Postgres's DETAIL, which names what a constraint missed.
func (db *DB) Exec(ctx context.Context, statement string, args ...any) error {
	if len(args) == 0 {
		conn, err := db.pool.Acquire(ctx)
		if err != nil {
			return fmt.Errorf("connect: %w", pg.ConnectCause(err))
		}
		defer conn.Release()
		_, err = conn.Conn().PgConn().Exec(ctx, statement).ReadAll()
		return withDetail(err)
	}
	_, err := db.pool.Exec(ctx, statement, args...)
	return withDetail(err)
}

func withDetail(err error) error {
	err = pg.ConnectCause(err)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Detail != "" {
		return fmt.Errorf("%w: %s", err, refused.Detail)
	}
	return err
}

// QueryRow runs a statement and reads its one row into into.
func (db *DB) QueryRow(ctx context.Context, into []any, statement string, args ...any) error {
	return pg.ConnectCause(db.pool.QueryRow(ctx, statement, args...).Scan(into...))
}

// Reset drops the connections, which a restart of the server has broken.
func (db *DB) Reset() { db.pool.Reset() }

// Close ends the connections.
func (db *DB) Close() { db.pool.Close() }

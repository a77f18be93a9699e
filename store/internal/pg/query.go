package pg

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// asker is a pool or a connection.
type asker interface {
	Query(ctx context.Context, statement string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error)
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// PinSQL pins the path for a transaction. It is the first statement of those in
// which no path is pinned yet, so its names are qualified and its types exact.
const PinSQL = "SELECT pg_catalog.set_config('search_path'::text, '" + PinnedPath + "'::text, true)"

// Query sends a statement. Where the session is tuned the statement is prepared
// by name. Else the session belongs to a pooler: the statement goes in one
// transaction with PinSQL, in the same round trip, and is prepared anew each time.
func Query(ctx context.Context, on asker, tuned bool, statement string, args ...any) (pgx.Rows, error) {
	if tuned {
		return on.Query(ctx, statement, append([]any{pgx.QueryExecModeCacheStatement}, args...)...)
	}
	batch := pinned(ctx, on, statement, args)
	if _, err := batch.Exec(); err != nil {
		batch.Close() // it says the same
		return nil, err
	}
	rows, err := batch.Query()
	if err != nil {
		batch.Close() // it says the same
		return nil, err
	}
	return &batchRows{rows, batch}, nil
}

// QueryRow is Query for a statement that gives one row.
func QueryRow(ctx context.Context, on asker, tuned bool, statement string, args ...any) pgx.Row {
	rows, err := Query(ctx, on, tuned, statement, args...)
	return oneRow{rows, err}
}

// Exec is Query for a statement that gives no row.
func Exec(ctx context.Context, on asker, tuned bool, statement string, args ...any) (tag pgconn.CommandTag, err error) {
	if tuned {
		return on.Exec(ctx, statement, append([]any{pgx.QueryExecModeCacheStatement}, args...)...)
	}
	batch := pinned(ctx, on, statement, args)
	if _, err = batch.Exec(); err == nil {
		tag, err = batch.Exec()
	}
	if closed := batch.Close(); err == nil {
		err = closed
	}
	return tag, err
}

func pinned(ctx context.Context, on asker, statement string, args []any) pgx.BatchResults {
	var batch pgx.Batch
	batch.Queue(PinSQL)
	batch.Queue(statement, args...)
	return on.SendBatch(ctx, &batch)
}

// batchRows are the rows of a batch's last statement. Their end is the batch's
// end, which gives a connection of a pool back.
type batchRows struct {
	pgx.Rows
	batch pgx.BatchResults
}

func (r *batchRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *batchRows) Close() {
	r.Rows.Close()
	r.batch.Close() // Err says what matters
}

type oneRow struct {
	rows pgx.Rows
	err  error
}

func (r oneRow) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(into...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

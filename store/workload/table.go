package workload

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// ErrForbidden is wrapped when the role may not terminate sessions; trying
// again does not help.
var ErrForbidden = errors.New("this role may not terminate sessions (GRANT pg_signal_backend)")

// Rows reads this load's rows of one user from the CRM's table, or all of them
// where user is 0.
func (w *Workload) Rows(ctx context.Context, user int64) (all []Row, err error) {
	conn, err := w.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer w.close(conn)
	rows, err := pg.Query(ctx, conn, false, "SELECT id::bigint, user_id::bigint, NOT is_read, title::text FROM "+w.table+
		" WHERE starts_with(title, $1::text) AND ($2::bigint = 0 OR user_id = $2::bigint)", w.marker, user)
	if err != nil {
		return nil, fmt.Errorf("read the table: %w", err)
	}
	var r Row
	var title string
	_, err = pgx.ForEachRow(rows, []any{&r.ID, &r.User, &r.Unread, &title}, func() error {
		var ours bool
		if r.Number, ours = w.Number(title); ours {
			all = append(all, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the table: %w", err)
	}
	return all, nil
}

// Remove deletes this load's rows from the CRM's table.
func (w *Workload) Remove(ctx context.Context) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer w.close(conn)
	if _, err := conn.Exec(ctx, "DELETE FROM "+w.table+" WHERE pg_catalog.starts_with(title::text, $1::text)", w.marker); err != nil {
		return fmt.Errorf("delete the rows: %w", err)
	}
	return nil
}

// Terminate ends one of our own writers' sessions and about half of those that
// other has in this database, never none where there is one. It says how many
// ended.
func (w *Workload) Terminate(ctx context.Context, other string) (n int, err error) {
	conn, err := w.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer w.close(conn)
	err = pg.QueryRow(ctx, conn, false, `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM (
		(SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1::text AND pid <> pg_backend_pid()
		 ORDER BY random() LIMIT 1)
		UNION ALL
		(SELECT pid FROM (SELECT pid, row_number() OVER (ORDER BY random()) AS place, count(*) OVER () AS total
		 FROM pg_stat_activity WHERE datname = current_database() AND application_name = $2::text) o WHERE place <= (total + 1) / 2)) victim`,
		w.pgx.RuntimeParams["application_name"], other).Scan(&n)
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && refused.Code == pg.InsufficientPrivilege {
		return 0, fmt.Errorf("%w: %s", ErrForbidden, refused.Message)
	}
	if err != nil {
		return 0, fmt.Errorf("terminate sessions: %w", err)
	}
	return n, nil
}

// Finish waits until no session of this load is at work on the server, so that
// no transaction whose session has broken can still commit. Idle ones may be
// left: a pooler keeps them.
func (w *Workload) Finish(ctx context.Context) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer w.close(conn)
	for left := 1; left > 0; sleep(ctx, finishPause) { // a query fails once ctx has ended
		err := pg.QueryRow(ctx, conn, false, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = $1::text AND pid <> pg_backend_pid() AND state <> 'idle'`,
			w.pgx.RuntimeParams["application_name"]).Scan(&left)
		if err != nil {
			return fmt.Errorf("look for sessions that are left: %w", err)
		}
	}
	return nil
}

package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// paths looks for functions of the mapping whose names are looked up by the path of
// their caller. The gateway's sessions have PinnedPath, so that a table which
// such a function names without its schema is not found. A body that was parsed when
// the function was made (BEGIN ATOMIC) names nothing any more.
func (d doctor) paths(ctx context.Context) (string, error) {
	rows, err := d.conn.Query(ctx, `SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
		WHERE l.lanname IN ('sql', 'plpgsql') AND p.prosqlbody IS NULL AND n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema'
			AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%')
			AND p.prosrc ~* '\m(from|join)\s+(only\s+)?("[^"]+"|[a-z_][a-z0-9_]*\M)(?!\s*[.(])'
			AND EXISTS (SELECT FROM pg_depend x JOIN pg_rewrite r ON r.oid = x.objid JOIN pg_class v ON v.oid = r.ev_class
				WHERE x.classid = 'pg_rewrite'::regclass AND x.refclassid = 'pg_proc'::regclass AND x.refobjid = p.oid
					AND v.relnamespace = to_regnamespace('notification_gateway') AND v.relname IN ('feed', 'identity'))
		ORDER BY 1`)
	if err != nil {
		return "", err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", err
	}
	if len(names) > 0 {
		return "", &advisedError{
			ok: true, what: "these functions of the views have no search_path of their own and seem to name tables without a schema, which are not found under " + pg.PinnedPath + ": " + strings.Join(names, ", "),
			mend: "write the schema before each name in them, or ALTER FUNCTION … SET search_path = public, pg_temp",
		}
	}
	return "those of the views name each table with its schema", nil
}

// unreadDeadline bounds the look for long lists, because it may read the whole view.
const unreadDeadline = 2 * time.Second

// unread looks for a user of whose unread notifications a client gets the newest
// alone. That is no fault: the stream says so.
func (d doctor) unread(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, unreadDeadline)
	defer cancel()
	var most int64
	err := d.conn.QueryRow(ctx, "SELECT count(*) FROM notification_gateway.feed f WHERE NOT f.is_read GROUP BY f.user_key HAVING count(*) > $1::bigint ORDER BY 1 DESC LIMIT 1", d.limit).Scan(&most)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Sprintf("nobody has more than %d unread notifications", d.limit), nil
	case err != nil && (pg.SQLState(err) == "" || pg.IsTimeLimit(err)): // a deadline, of this look or of one before it, ends the connection
		return "not counted: it takes too long", nil
	case err != nil:
		return "", err
	}
	return "", &advisedError{
		ok: true, what: fmt.Sprintf("somebody has %d unread notifications; replay=unread brings the newest %d after a reset with the reason truncated", most, d.limit),
		mend: "raise GATEWAY_REPLAY_LIMIT, or have the page load its list on reset",
	}
}

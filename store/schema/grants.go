package schema

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/sql"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// grantees returns the roles that were granted before, so that views which a
// mapping made anew can be read by them again.
func grantees(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT DISTINCT r.rolname::text FROM pg_class c, aclexplode(c.relacl) a, pg_roles r
		WHERE c.oid = 'notification_gateway.log'::regclass AND a.grantee = r.oid AND a.grantee <> c.relowner`)
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	roles, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	return roles, nil
}

// runTimeFunctions are those of ours that the run-time role calls. Any other that
// is in sql/functions is refused to it until it is named here: capture() and what
// it calls write whatever they are told.
func runTimeFunctions() []string {
	return []string{"begin_canary", "change_session", "end_canary", "hello", "history", "kept", "last_disconnect", "mind", "prune", "pruned_below", "release_due", "rfc3339", "session_key", "sleep", "wake"}
}

// grantFunctions yields the GRANT on the functions that the run-time role calls:
// runTimeFunctions and those of a mapping, because a view's functions are called
// with the rights of who reads the view
// (https://www.postgresql.org/docs/current/sql-createview.html). Trigger functions
// are left out: a trigger needs no right to call its function, and a role with it
// could put the function on a temporary table of its own, which records what the
// role likes. role is an expression.
func grantFunctions(role string) (string, error) {
	files, err := fs.Glob(sql.Functions, "functions/*.sql")
	if err != nil {
		return "", fmt.Errorf("list functions: %w", err)
	}
	var refused []string
	for _, file := range files {
		if name := strings.TrimSuffix(path.Base(file), ".sql"); !slices.Contains(runTimeFunctions(), name) {
			refused = append(refused, quoteLiteral(name))
		}
	}
	return fmt.Sprintf(`SELECT format('GRANT EXECUTE ON FUNCTION %%s TO %%I', string_agg(p.oid::regprocedure::text, ', '), %s::text)
	FROM pg_proc p WHERE p.pronamespace = 'notification_gateway'::regnamespace AND p.prorettype <> 'trigger'::regtype AND p.proname NOT IN (%s)`, role, strings.Join(refused, ", ")), nil
}

func grantObjects(role string) string {
	name := pgx.Identifier{role}.Sanitize()
	return `GRANT USAGE ON SCHEMA notification_gateway TO ` + name + `;
GRANT SELECT ON notification_gateway.log, notification_gateway.change, notification_gateway.due, notification_gateway.migration TO ` + name + `;
DO $views$ BEGIN
  IF to_regclass('notification_gateway.feed') IS NOT NULL THEN GRANT SELECT ON notification_gateway.feed TO ` + name + `; END IF;
  IF to_regclass('notification_gateway.identity') IS NOT NULL THEN GRANT SELECT ON notification_gateway.identity TO ` + name + `; END IF;
END $views$`
}

func grant(ctx context.Context, tx pgx.Tx, role string) error {
	if err := execScript(ctx, tx, grantObjects(role)); err != nil {
		return err
	}
	var functions string
	statement, err := grantFunctions("$1")
	if err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, statement, role).Scan(&functions); err != nil {
		return fmt.Errorf("list functions: %w", err)
	}
	_, err = tx.Exec(ctx, functions)
	return err
}

// pinRole pins the search_path of the run-time role in this database, for its
// sessions behind a pooler. A role that also writes to tables of the CRM is the
// CRM's own, and keeps its path.
func pinRole(role string) string {
	return `DO $path$
DECLARE
  runtime CONSTANT name := ` + quoteLiteral(role) + `;
BEGIN
  IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = runtime AND r.rolsuper)
    OR EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p', 'v', 'f') AND n.nspname NOT IN ('notification_gateway', 'information_schema') AND n.nspname !~ '^pg_'
        AND has_table_privilege(runtime, c.oid, 'INSERT, UPDATE, DELETE'))
  THEN
    RETURN;
  END IF;
  EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = ` + pg.PinnedPath + `', runtime, current_database());
EXCEPTION WHEN insufficient_privilege THEN
  RAISE NOTICE 'the search_path of role % is not pinned: this needs a role that may alter it', runtime;
END $path$`
}

// pathOf says whether the path of the run-time role is pinned.
func pathOf(ctx context.Context, tx pgx.Tx, role string) (string, error) {
	var pinned bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole JOIN pg_database d ON d.oid = s.setdatabase
		WHERE r.rolname = $1::name AND d.datname = current_database() AND $2::text = ANY (s.setconfig))`, role, "search_path="+pg.PinnedPath).Scan(&pinned)
	switch {
	case err != nil:
		return "", fmt.Errorf("read the role's settings: %w", err)
	case pinned:
		return "search_path of " + role + " pinned in this database", nil
	}
	return "search_path of " + role + " is not pinned: it is a superuser's or the CRM's own role, or this role may not alter it; behind a pooler give the gateway a role of its own", nil
}

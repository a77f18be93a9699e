package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
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

// grantFunctions yields the GRANT on every function that the run-time role
// needs: all except those that the CRM or its triggers call.
const grantFunctions = `SELECT format('GRANT EXECUTE ON FUNCTION %%s TO %%I', string_agg(p.oid::regprocedure::text, ', '), %s::text)
	FROM pg_proc p WHERE p.pronamespace = 'notification_gateway'::regnamespace AND p.proname NOT IN ('capture', 'record', 'disconnect')`

func grantObjects(role string) string {
	name := pgx.Identifier{role}.Sanitize()
	return `GRANT USAGE ON SCHEMA notification_gateway TO ` + name + `;
GRANT SELECT ON notification_gateway.log, notification_gateway.migration TO ` + name + `;
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
	if err := tx.QueryRow(ctx, fmt.Sprintf(grantFunctions, "$1"), role).Scan(&functions); err != nil {
		return fmt.Errorf("list functions: %w", err)
	}
	_, err := tx.Exec(ctx, functions)
	return err
}

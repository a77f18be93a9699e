package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// alterTable resolves a table's name as SQL names it and runs change in one
// transaction. The name given to change is Postgres's own quoting of it, so
// nothing that the caller wrote reaches a statement's text.
func alterTable(ctx context.Context, url, name string, change func(tx pgx.Tx, oid uint32, table string) error) error {
	conn, err := pg.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return pg.Advise(tableAdvice(), conn.Begin(ctx, func(tx pgx.Tx) error {
		if err := onPrimary(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '3s'"); err != nil {
			return fmt.Errorf("set the lock timeout: %w", err)
		}
		oid, table, err := findTable(ctx, tx, conn.OwnPath, name)
		if err != nil {
			return err
		}
		return change(tx, oid, table)
	}))
}

func tableAdvice() map[string]string {
	return map[string]string{
		pg.InsufficientPrivilege: "run this as the table's owner, who must also be a member of notification_gateway_owner, as who runs gateway migrate is",
		pg.InvalidSchema:         "run gateway migrate first",
		pg.UndefinedFunction:     "run gateway migrate first",
		pg.LockNotAvailable:      "a transaction holds the table; try again when it has ended",
		pg.DuplicateObject:       "one of its partitions has a trigger of its own: detach that one first",
		pg.DependentObjects:      "this is a partition, and the trigger is its table's, which captures all its partitions: name that table",
	}
}

// findTable resolves a name by path, the role's own. Nothing else is asked under
// that path.
func findTable(ctx context.Context, tx pgx.Tx, path, name string) (oid uint32, table string, err error) {
	if _, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('search_path'::text, $1::text, true)", path); err != nil {
		return 0, "", fmt.Errorf("take the role's own search path: %w", err)
	}
	var found *uint32
	if err := tx.QueryRow(ctx, "SELECT pg_catalog.to_regclass($1::text)::pg_catalog.oid", name).Scan(&found); err != nil {
		return 0, "", fmt.Errorf("look for table %s: %w", name, err)
	}
	if err := pg.Pin(ctx, tx); err != nil {
		return 0, "", err
	}
	if found == nil {
		return 0, "", noTable(ctx, tx, name)
	}
	var kind string
	err = tx.QueryRow(ctx, `SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relkind::text
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1`, *found).Scan(&oid, &table, &kind)
	switch {
	case err != nil:
		return 0, "", fmt.Errorf("look for table %s: %w", name, err)
	case kind == "v" || kind == "m":
		return 0, "", fmt.Errorf("%s is a view, not a table: name the table that is written to", table)
	case kind != "r" && kind != "p":
		return 0, "", fmt.Errorf("%s is not a table", table)
	}
	return oid, table, nil
}

// noTable says that there is none of this name, and which one may be meant: SQL
// folds capitals that stand without double quotes, and the shell takes those
// that are not in single ones.
func noTable(ctx context.Context, tx pgx.Tx, name string) error {
	var meant string
	err := tx.QueryRow(ctx, `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
			(SELECT parse_ident($1) AS parts) p
		WHERE c.relkind IN ('r', 'p') AND lower(c.relname) = lower(parts[cardinality(parts)])
			AND (cardinality(parts) = 1 OR lower(n.nspname) = lower(parts[cardinality(parts) - 1]))
			AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
		ORDER BY 1 LIMIT 1`, name).Scan(&meant)
	switch {
	case err != nil: // also when it cannot be a name; either way there is no such table
		return fmt.Errorf("there is no table %s", name)
	case strings.Contains(meant, `"`):
		return fmt.Errorf("there is no table %s, but '%s': names with capitals need double quotes, and single ones for the shell", name, meant)
	}
	return fmt.Errorf("there is no table %s, but %s", name, meant)
}

// onPrimary refuses a server that cannot be written to.
func onPrimary(ctx context.Context, tx pgx.Tx) error {
	var standby, readOnly bool
	if err := tx.QueryRow(ctx, "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean").Scan(&standby, &readOnly); err != nil {
		return fmt.Errorf("ask whether this is the primary: %w", err)
	}
	switch {
	case standby:
		return errors.New("this server is a standby (a read replica): run this at the primary, or name all hosts and add target_session_attrs=read-write")
	case readOnly:
		return errors.New("default_transaction_read_only is on for this server, database or role: run this where it is off")
	}
	return nil
}

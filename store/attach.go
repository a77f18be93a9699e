package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// AttachOptions names the CRM's notification table and its two columns.
type AttachOptions struct {
	Table      string // as SQL names it: notifications, crm.notifications, "Crm"."Notification"
	UserColumn string // the recipient; as it is, without quotes
	IDColumn   string // the notification's ID; as it is, without quotes
}

// triggerName is the capture trigger's name on every table.
const triggerName = "notification_gateway_capture"

// Attach puts the capture trigger on the CRM's table, or replaces it: a row
// trigger (rows that COPY or a partition brings are seen), enabled ALWAYS (so
// that it also fires under session_replication_role = replica, see
// https://www.postgresql.org/docs/current/sql-altertable.html). It needs the
// TRIGGER privilege and ownership of the table, and waits 3 s for its lock.
func Attach(ctx context.Context, url string, options AttachOptions) error {
	return alterTable(ctx, url, options.Table, func(tx pgx.Tx, oid uint32, table string) error {
		c, err := chosen(ctx, tx.Conn(), oid, table, options)
		if err != nil {
			return err
		}
		usual := ""
		if options.UserColumn == "user_id" && options.IDColumn == "id" {
			usual = ", 'usual'"
		}
		for _, q := range []string{
			fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", triggerName, table),
			fmt.Sprintf("CREATE TRIGGER %s AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION notification_gateway.capture(%s, %s, '%d', '%d'%s)",
				triggerName, table, quoteLiteral(options.UserColumn), quoteLiteral(options.IDColumn), c.user.number, c.id.number, usual),
			fmt.Sprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table, triggerName),
		} {
			if _, err := tx.Exec(ctx, q); err != nil {
				return fmt.Errorf("attach to %s: %w", table, err)
			}
		}
		return nil
	})
}

// chosen finds the columns that options name, and refuses those that the view
// feed, where it is there already, cannot have the keys of.
func chosen(ctx context.Context, conn *pgx.Conn, oid uint32, table string, options AttachOptions) (capture, error) {
	columns, err := columnsOf(ctx, conn, oid)
	if err != nil {
		return capture{}, err
	}
	c := capture{table: table}
	for _, choice := range []struct {
		name string
		into *column
	}{{options.UserColumn, &c.user}, {options.IDColumn, &c.id}} {
		var ok bool
		if *choice.into, ok = named(columns, choice.name); !ok {
			return capture{}, fmt.Errorf("table %s has no column %q", table, choice.name)
		}
	}
	feed, err := viewColumns(ctx, conn, "feed")
	if err != nil {
		return capture{}, err
	}
	if err := c.fits(feed); err != nil {
		return capture{}, fmt.Errorf("%w: name those columns that the view feed selects as user_key and id", err)
	}
	return c, nil
}

// Detach takes the capture trigger off the CRM's table; without one it does nothing.
func Detach(ctx context.Context, url, table string) error {
	return alterTable(ctx, url, table, func(tx pgx.Tx, _ uint32, table string) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", triggerName, table)); err != nil {
			return fmt.Errorf("detach from %s: %w", table, err)
		}
		return nil
	})
}

// alterTable resolves a table's name as SQL names it and runs change in one
// transaction. The name given to change is Postgres's own quoting of it, so
// nothing that the caller wrote reaches a statement's text.
func alterTable(ctx context.Context, url, name string, change func(tx pgx.Tx, oid uint32, table string) error) error {
	conn, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is owed to a connection that is done
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '3s'"); err != nil {
			return fmt.Errorf("set the lock timeout: %w", err)
		}
		var oid uint32
		var table string
		err := tx.QueryRow(ctx, `SELECT c.oid, format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p')`, name).Scan(&oid, &table)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("there is no table %s", name)
		}
		if err != nil {
			return fmt.Errorf("look for table %s: %w", name, err)
		}
		return change(tx, oid, table)
	})
}

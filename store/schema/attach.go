package schema

import (
	"context"
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
// https://www.postgresql.org/docs/current/sql-altertable.html). It runs
// as the table's owner, who must be a member of notification_gateway_owner, and
// waits 3 s for the table's lock.
func Attach(ctx context.Context, url string, options AttachOptions) error {
	return alterTable(ctx, url, options.Table, func(tx pgx.Tx, oid uint32, table string) error {
		c, err := chosen(ctx, tx, oid, table, options)
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
func chosen(ctx context.Context, conn asker, oid uint32, table string, options AttachOptions) (capture, error) {
	columns, err := columnsOf(ctx, conn, oid)
	if err != nil {
		return capture{}, err
	}
	c := capture{table: table}
	for _, choice := range []struct {
		flag, name string
		into       *column
	}{{"--user-column", options.UserColumn, &c.user}, {"--id-column", options.IDColumn, &c.id}} {
		var ok bool
		if *choice.into, ok = named(columns, choice.name); !ok {
			return capture{}, fmt.Errorf("table %s has no column %s (%s), but %s: names are given as they are, without quotes", table, choice.name, choice.flag, names(columns))
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

// Detach takes the capture trigger off the CRM's table, and reports whether
// there was one.
func Detach(ctx context.Context, url, table string) (had bool, err error) {
	err = alterTable(ctx, url, table, func(tx pgx.Tx, oid uint32, table string) error {
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = $1 AND tgname = $2)", oid, triggerName).Scan(&had); err != nil {
			return fmt.Errorf("look for the trigger on %s: %w", table, err)
		}
		if _, err := tx.Exec(ctx, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", triggerName, table)); err != nil {
			return fmt.Errorf("detach from %s: %w", table, err)
		}
		return nil
	})
	return had, err
}

package schema

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// AttachOptions names the CRM's notification table and its two columns.
type AttachOptions struct {
	Table      string // as SQL names it: notifications, crm.notifications, "Crm"."Notification"
	UserColumn string // the recipient; as it is, without quotes
	IDColumn   string // the notification's ID; as it is, without quotes
}

// usual reports whether the columns have the names that capture() reads fastest.
func (o AttachOptions) usual() bool { return o.UserColumn == "user_id" && o.IDColumn == "id" }

// triggerName is the capture trigger's name on every table.
const triggerName = "notification_gateway_capture"

// Attach puts the capture trigger on the CRM's table and on those that inherit
// from it, or replaces it: a row trigger (rows that COPY or a partition brings are
// seen), enabled ALWAYS (so that it also fires under session_replication_role =
// replica, see https://www.postgresql.org/docs/current/sql-altertable.html). A
// trigger that is there already as it should be stays. Attach runs as the table's
// owner, who must be a member of notification_gateway_owner, and waits 3 s for the
// table's lock. It returns what the operator should know, a line each.
func Attach(ctx context.Context, url string, options AttachOptions) (warnings []string, err error) {
	err = alterTable(ctx, url, options.Table, func(tx pgx.Tx, oid uint32, table string) error {
		c, err := chosen(ctx, tx, oid, table, options)
		if err != nil {
			return err
		}
		if warnings, err = otherTables(ctx, tx, oid, c); err != nil {
			return err
		}
		family, err := withChildren(ctx, tx, oid)
		if err != nil {
			return err
		}
		for _, member := range family {
			if err := putTrigger(ctx, tx, member, options); err != nil {
				return err
			}
		}
		hidden, err := hiddenRows(ctx, tx)
		warnings = append(warnings, hidden...)
		return err
	})
	return warnings, err
}

// relation is a table by its number and by Postgres's own quoting of its name.
type relation struct {
	oid  uint32
	name string
}

// putTrigger puts the trigger on one table, unless it is there as it should be.
func putTrigger(ctx context.Context, tx pgx.Tx, table relation, options AttachOptions) error {
	c, err := chosen(ctx, tx, table.oid, table.name, options)
	if err != nil {
		return err
	}
	arguments := []string{options.UserColumn, options.IDColumn, fmt.Sprint(c.user.number), fmt.Sprint(c.id.number)}
	if options.usual() {
		arguments = append(arguments, "usual")
	}
	var there bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
		WHERE t.tgrelid = $1 AND t.tgname = $2::name AND t.tgenabled = 'A' AND t.tgtype = 5 AND t.tgparentid = 0
			AND p.proname = 'capture' AND p.pronamespace = 'notification_gateway'::regnamespace AND t.tgargs = $3::bytea)`,
		table.oid, triggerName, []byte(strings.Join(arguments, "\x00")+"\x00")).Scan(&there); err != nil {
		return fmt.Errorf("look for the trigger on %s: %w", table.name, err)
	}
	if there {
		return nil
	}
	for i, a := range arguments {
		arguments[i] = quoteLiteral(a)
	}
	for _, q := range []string{
		fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", triggerName, table.name),
		fmt.Sprintf("CREATE TRIGGER %s AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION notification_gateway.capture(%s)", triggerName, table.name, strings.Join(arguments, ", ")),
		fmt.Sprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table.name, triggerName),
	} {
		if _, err := tx.Exec(ctx, q); err != nil {
			return fmt.Errorf("attach to %s: %w", table.name, err)
		}
	}
	return nil
}

// chosen finds the columns that options name, and refuses those that the trigger
// cannot read and those that the view feed, where it is there already, cannot
// have the keys of.
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
	if err := c.readable(); err != nil {
		return capture{}, err
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

// otherTables looks at the tables that are attached already. IDs of two tables
// meet in one view: where they are integers both tables have a row 1, and one of
// the two would be lost.
func otherTables(ctx context.Context, conn asker, oid uint32, c capture) (warnings []string, err error) {
	attached, err := attachedTables(ctx, conn)
	if err != nil {
		return nil, err
	}
	family, err := withChildren(ctx, conn, oid)
	if err != nil {
		return nil, err
	}
	known := false // the table itself is attached, and goes on
	var others []string
	for _, a := range attached {
		switch {
		case a.oid == oid:
			known = true
		case !contains(family, a.oid):
			others = append(others, a.name)
		}
	}
	if len(others) == 0 {
		return nil, nil
	}
	if c.id.isInteger() && !known {
		return nil, fmt.Errorf("%s is attached already, and the IDs of two tables meet in the view feed: integers such as %s.%s overlap, so a further table needs a prefix before its IDs, see sql/README.md",
			strings.Join(others, ", "), c.table, c.id.name)
	}
	return []string{fmt.Sprintf("%s is attached too: an ID that two tables have is one notification to the gateway; see sql/README.md for a prefix before the IDs of %s", strings.Join(others, ", "), c.table)}, nil
}

func contains(family []relation, oid uint32) bool {
	for _, r := range family {
		if r.oid == oid {
			return true
		}
	}
	return false
}

// attachedTables returns the tables that have the trigger of their own.
func attachedTables(ctx context.Context, conn asker) ([]relation, error) {
	return relations(ctx, conn, `SELECT t.tgrelid, t.tgrelid::regclass::text FROM pg_trigger t
		WHERE t.tgname = $1::name AND NOT t.tgisinternal AND t.tgparentid = 0 ORDER BY 2`, triggerName)
}

// withChildren returns a table, and the tables that inherit from it. A trigger is
// not inherited, except by partitions.
func withChildren(ctx context.Context, conn asker, oid uint32) ([]relation, error) {
	return relations(ctx, conn, `WITH RECURSIVE family (oid) AS (SELECT $1::oid
			UNION SELECT i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.oid JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind = 'r' AND NOT c.relispartition)
		SELECT f.oid, f.oid::regclass::text FROM family f ORDER BY f.oid <> $1::oid, 2`, oid)
}

func relations(ctx context.Context, conn asker, statement string, args ...any) ([]relation, error) {
	rows, err := conn.Query(ctx, statement, args...)
	if err != nil {
		return nil, fmt.Errorf("look for tables: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r relation, err error) {
		err = row.Scan(&r.oid, &r.name)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for tables: %w", err)
	}
	return all, nil
}

// Detach takes the capture trigger off the CRM's table and off those that
// inherit from it, and reports whether there was one.
func Detach(ctx context.Context, url, table string) (had bool, err error) {
	err = alterTable(ctx, url, table, func(tx pgx.Tx, oid uint32, _ string) error {
		family, err := withChildren(ctx, tx, oid)
		if err != nil {
			return err
		}
		attached, err := attachedTables(ctx, tx)
		if err != nil {
			return err
		}
		for _, r := range family {
			had = had || contains(attached, r.oid)
			if _, err := tx.Exec(ctx, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", triggerName, r.name)); err != nil {
				return fmt.Errorf("detach from %s: %w", r.name, err)
			}
		}
		return nil
	})
	return had, err
}

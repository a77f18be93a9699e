package schema

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Attach puts the capture trigger on the CRM's table and on those that inherit
// from it, with those that the options ask for, or replaces them: row triggers
// (rows that COPY or a partition brings are seen), enabled ALWAYS (so that they
// also fire under session_replication_role = replica, see
// https://www.postgresql.org/docs/current/sql-altertable.html). Triggers that are
// there already as they should be stay. Attach runs as the table's owner, who must
// be a member of notification_gateway_owner, and waits 3 s for the table's lock. It
// returns what the operator should know, a line each.
func Attach(ctx context.Context, url string, options AttachOptions) (warnings []string, err error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	err = alterTable(ctx, url, options.Table, func(tx pgx.Tx, oid uint32, table string) error {
		c, err := chosen(ctx, tx, oid, table, options)
		if err != nil {
			return err
		}
		if !options.Record { // its own trigger says which IDs it has
			if warnings, err = otherTables(ctx, tx, oid, c, options.Prefix); err != nil {
				return err
			}
		}
		family, err := withChildren(ctx, tx, oid)
		if err != nil {
			return err
		}
		for _, member := range family {
			if err := putTriggers(ctx, tx, member, options); err != nil {
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

// putTriggers puts the triggers on one table, and takes off those of ours that
// the options do not ask for. Where all are there as they should be it does
// nothing.
func putTriggers(ctx context.Context, tx pgx.Tx, table relation, options AttachOptions) error {
	c, err := chosen(ctx, tx, table.oid, table.name, options)
	if err != nil {
		return err
	}
	wanted := triggersOf(c, options)
	if same, err := haveTriggers(ctx, tx, table, wanted); err != nil || same {
		return err
	}
	for _, q := range attachStatements(table.name, wanted) {
		if _, err := tx.Exec(ctx, q); err != nil {
			err = fmt.Errorf("attach to %s: %w", table.name, err)
			if options.When != "" && strings.HasPrefix(q, "CREATE") {
				err = fmt.Errorf("--when %q is no condition over NEW: %w", options.When, err)
			}
			return err
		}
	}
	return nil
}

// otherTables looks at the tables that are attached already. IDs of two tables
// meet in one view: where they are integers both tables have a row 1, and one of
// the two would be lost.
func otherTables(ctx context.Context, conn asker, oid uint32, c capture, prefix string) (warnings []string, err error) {
	attached, err := tablesWith(ctx, conn, triggerName)
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
	if len(others) == 0 || prefix != "" {
		return nil, nil
	}
	if c.id.isInteger() && !known {
		return nil, fmt.Errorf("%s is attached already, and the IDs of two tables meet in the view feed: integers such as %s.%s overlap, so a further table needs --prefix, see sql/README.md",
			strings.Join(others, ", "), c.table, c.id.name)
	}
	return []string{fmt.Sprintf("%s is attached too: an ID that two tables have is one notification to the gateway; give %s a --prefix, see sql/README.md", strings.Join(others, ", "), c.table)}, nil
}

func contains(family []relation, oid uint32) bool {
	for _, r := range family {
		if r.oid == oid {
			return true
		}
	}
	return false
}

// tablesWith returns the tables that have one of the named triggers, and not as a
// partition of another table.
func tablesWith(ctx context.Context, conn asker, names ...string) ([]relation, error) {
	return relations(ctx, conn, `SELECT DISTINCT t.tgrelid, t.tgrelid::regclass::text FROM pg_trigger t
		WHERE t.tgname = ANY ($1::name[]) AND NOT t.tgisinternal AND t.tgparentid = 0 ORDER BY 2`, names)
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

// Detach takes the triggers off the CRM's table and off those that
// inherit from it, and reports whether there was one.
func Detach(ctx context.Context, url, table string) (had bool, err error) {
	err = alterTable(ctx, url, table, func(tx pgx.Tx, oid uint32, _ string) error {
		family, err := withChildren(ctx, tx, oid)
		if err != nil {
			return err
		}
		attached, err := tablesWith(ctx, tx, triggerName, recordName)
		if err != nil {
			return err
		}
		for _, r := range family {
			had = had || contains(attached, r.oid)
			for _, q := range attachStatements(r.name, nil) {
				if _, err := tx.Exec(ctx, q); err != nil {
					return fmt.Errorf("detach from %s: %w", r.name, err)
				}
			}
		}
		return nil
	})
	return had, err
}

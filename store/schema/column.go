package schema

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// column is a column of a table or a view, as the catalog has it.
type column struct {
	name    string
	number  int16
	sqlType string // as SQL writes it; of a domain its own name
	base    string // in pg_type; of a domain that which it is made of
	virtual bool   // generated when it is read
}

// asker is a session or a transaction whose path is pinned.
type asker interface {
	Query(ctx context.Context, statement string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, statement string, args ...any) pgx.Row
	Exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error)
}

// columnsOf returns the columns of a table or view, in their order, none when
// it is not there. It asks the catalog by names and numbers alone, which every
// role may read.
func columnsOf(ctx context.Context, conn asker, relation uint32) ([]column, error) {
	rows, err := conn.Query(ctx, `WITH RECURSIVE unwrapped AS (
			SELECT a.attname, a.attnum, a.atttypid, a.atttypid AS base, a.attgenerated = 'v' AS virtual FROM pg_attribute a
			WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL
			SELECT u.attname, u.attnum, u.atttypid, t.typbasetype, u.virtual FROM unwrapped u JOIN pg_type t ON t.oid = u.base AND t.typtype = 'd')
		SELECT u.attname::text, u.attnum, format_type(u.atttypid, NULL), t.typname::text, u.virtual
		FROM unwrapped u JOIN pg_type t ON t.oid = u.base AND t.typtype <> 'd' ORDER BY u.attnum`, relation)
	if err != nil {
		return nil, fmt.Errorf("read the columns: %w", err)
	}
	columns, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c column, err error) {
		err = row.Scan(&c.name, &c.number, &c.sqlType, &c.base, &c.virtual)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the columns: %w", err)
	}
	return columns, nil
}

// viewColumns is columnsOf for one of the mapping's views.
func viewColumns(ctx context.Context, conn asker, view string) ([]column, error) {
	var oid uint32 // none has 0
	err := conn.QueryRow(ctx, `SELECT coalesce(max(c.oid::bigint), 0) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'notification_gateway' AND c.relname = $1`, view).Scan(&oid)
	if err != nil {
		return nil, fmt.Errorf("look for the view %s: %w", view, err)
	}
	return columnsOf(ctx, conn, oid)
}

func named(columns []column, name string) (column, bool) {
	i := slices.IndexFunc(columns, func(c column) bool { return c.name == name })
	if i < 0 {
		return column{}, false
	}
	return columns[i], true
}

// mark is the column's number as a trigger's argument. A column whose number is
// known only when a script runs, which is negative here, has a mark for it.
func (c column) mark() string {
	if c.number < 0 {
		return fmt.Sprintf("\x01%d\x02", -c.number)
	}
	return strconv.Itoa(int(c.number))
}

// joinedNames names the columns of a key as --user-column does.
func joinedNames(columns []column) string {
	return strings.ReplaceAll(names(columns), ", ", ",")
}

// names lists columns for a message.
func names(columns []column) string {
	var all []string
	for _, c := range columns {
		all = append(all, c.name)
	}
	return strings.Join(all, ", ")
}

// family is what keys of the column's type look like as text, which is what
// the log holds; empty for a type that no key has.
func (c column) family() string {
	switch c.base {
	case "int2", "int4", "int8":
		return "integer"
	case "uuid":
		return "uuid"
	case "text", "varchar", "bpchar", "citext", "name":
		return "text"
	}
	return ""
}

// cast is the SQL name by which a text is read as a value of the column's type.
// The other name of char(n) cuts all but the first character off.
func (c column) cast() string {
	if c.base == "bpchar" {
		return c.base
	}
	return c.sqlType
}

func (c column) isInteger() bool { return c.family() == "integer" || c.base == "numeric" }

// mayEqual reports whether what is captured from c can be found under the
// view's column key. A view may cast keys to text (that of two tables must), and
// a numeric without a fraction to an integer.
func (c column) mayEqual(key column) bool {
	from := c.family()
	if c.base == "numeric" {
		from = "integer"
	}
	return from != "" && (from == key.family() || key.family() == "text")
}

package schema

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// capture is what the trigger on one table writes to the log.
type capture struct {
	table    string
	user, id column
}

// fits returns an error when the columns are of types that the view feed,
// whose columns are given, cannot have the same keys in: then every row would
// be taken for one that was deleted. Without a view anything fits.
func (c capture) fits(feed []column) error {
	for _, pair := range []struct {
		from column
		to   string
	}{{c.user, "user_key"}, {c.id, "id"}} {
		if to, ok := named(feed, pair.to); ok && !pair.from.mayEqual(to) {
			return fmt.Errorf("column %q of %s is %s, but feed.%s is %s", pair.from.name, c.table, pair.from.sqlType, to.name, to.sqlType)
		}
	}
	return nil
}

// readable returns an error when the trigger cannot read the columns as the
// database compares them.
func (c capture) readable() error {
	for _, column := range []column{c.user, c.id} {
		switch {
		case column.virtual:
			return fmt.Errorf("column %q of %s is generated when it is read (VIRTUAL), and a trigger sees null in it: make it STORED, or name the column that it is made of", column.name, c.table)
		case column.base == "citext":
			return fmt.Errorf("column %q of %s is citext: the database takes Ann and ann for one value, the gateway for two; name a column of type text that holds it in one case, such as one GENERATED ALWAYS AS (lower(%[1]s::text)) STORED",
				column.name, c.table)
		}
	}
	return nil
}

// captures reads from the catalog what the triggers capture.
func captures(ctx context.Context, conn asker) ([]capture, error) {
	type trigger struct {
		OID       uint32
		Table     string
		Arguments []byte
	}
	rows, err := conn.Query(ctx, `SELECT tgrelid, tgrelid::regclass::text, tgargs FROM pg_trigger
		WHERE tgname = $1 AND NOT tgisinternal AND tgparentid = 0`, triggerName)
	if err != nil {
		return nil, fmt.Errorf("look for the trigger: %w", err)
	}
	triggers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[trigger])
	if err != nil {
		return nil, fmt.Errorf("look for the trigger: %w", err)
	}
	var out []capture
	for _, t := range triggers {
		columns, err := columnsOf(ctx, conn, t.OID)
		if err != nil {
			return nil, err
		}
		arguments := bytes.Split(t.Arguments, []byte{0}) // those of capture()
		if len(arguments) < 4 {
			return nil, fmt.Errorf("the trigger on %s is not from gateway attach", t.Table)
		}
		c := capture{table: t.Table}
		for i, into := range []*column{&c.user, &c.id} {
			if *into, err = argument(columns, string(arguments[i]), string(arguments[i+2])); err != nil {
				return nil, fmt.Errorf("the trigger on %s: %w", t.Table, err)
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// argument finds a column as capture() does: by name, else by number.
func argument(columns []column, name, number string) (column, error) {
	if c, ok := named(columns, name); ok {
		return c, nil
	}
	for _, c := range columns {
		if strconv.Itoa(int(c.number)) == number {
			return c, nil
		}
	}
	return column{}, fmt.Errorf("its column %q is gone", name)
}

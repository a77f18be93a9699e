package schema

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// capture is what the triggers on one table write to the log.
type capture struct {
	table  string
	users  []column // joined by ':' where there are several
	id     column
	due    column   // without a name there is none
	told   []column // whose change is told
	prefix bool     // something stands before the ID
	lead   bool     // and before the recipient
	parted bool     // an UPDATE may move a row to another partition
}

// fits returns an error when the columns are of types that the view feed,
// whose columns are given, cannot have the same keys in: then every row would
// be taken for one that was deleted. Without a view anything fits.
func (c capture) fits(feed []column) error {
	for _, pair := range []struct {
		from   column
		to     string
		joined bool
	}{{c.users[0], "user_key", c.lead || len(c.users) > 1}, {c.id, "id", c.prefix}} {
		to, ok := named(feed, pair.to)
		switch {
		case !ok:
		case pair.joined && to.family() != "text":
			return fmt.Errorf("what is captured of %s as %s is a text of several parts, but feed.%s is %s", c.table, pair.to, to.name, to.sqlType)
		case !pair.joined && !pair.from.mayEqual(to):
			return fmt.Errorf("column %q of %s is %s, but feed.%s is %s", pair.from.name, c.table, pair.from.sqlType, to.name, to.sqlType)
		}
	}
	return nil
}

// readable returns an error when the trigger cannot read the columns as the
// database compares them.
func (c capture) readable() error {
	for _, column := range append(append([]column{c.id, c.due}, c.users...), c.told...) {
		if column.virtual {
			return fmt.Errorf("column %q of %s is generated when it is read (VIRTUAL), and a trigger sees null in it: make it STORED, or name the column that it is made of", column.name, c.table)
		}
	}
	for _, column := range append([]column{c.id}, c.users...) {
		if column.base == "citext" {
			return fmt.Errorf("column %q of %s is citext: the database takes Ann and ann for one value, the gateway for two; name a column of type text that holds it in one case, such as one GENERATED ALWAYS AS (lower(%[1]s::text)) STORED",
				column.name, c.table)
		}
	}
	switch c.due.base {
	case "", "timestamptz", "timestamp", "date":
		return nil
	}
	return fmt.Errorf("column %q of %s is %s, and --due-column takes timestamptz, timestamp (which counts as UTC) or date", c.due.name, c.table, c.due.sqlType)
}

// chosen finds the columns that options name, and refuses those that the trigger
// cannot read and those that the view feed, where it is there already, cannot
// have the keys of.
func chosen(ctx context.Context, conn asker, oid uint32, table string, options AttachOptions) (capture, error) {
	if options.Record { // a trigger of the table's own knows its columns
		return capture{table: table}, nil
	}
	columns, err := columnsOf(ctx, conn, oid)
	if err != nil {
		return capture{}, err
	}
	find := func(flag, name string) (column, error) {
		c, ok := named(columns, name)
		if !ok {
			return column{}, fmt.Errorf("table %s has no column %s (%s), but %s: names are given as they are, without quotes", table, name, flag, names(columns))
		}
		return c, nil
	}
	c := capture{table: table, prefix: options.Prefix != "", lead: options.PrefixUser}
	for _, name := range options.UserColumns {
		user, err := find("--user-column", name)
		if err != nil {
			return capture{}, err
		}
		c.users = append(c.users, user)
	}
	if c.id, err = find("--id-column", options.IDColumn); err != nil {
		return capture{}, err
	}
	for _, name := range options.OnUpdate {
		told, err := find("--on-update", name)
		if err != nil {
			return capture{}, err
		}
		c.told = append(c.told, told)
	}
	if options.DueColumn != "" {
		if c.due, err = find("--due-column", options.DueColumn); err != nil {
			return capture{}, err
		}
	}
	if err := conn.QueryRow(ctx, "SELECT relkind = 'p' FROM pg_class WHERE oid = $1::oid", oid).Scan(&c.parted); err != nil {
		return capture{}, fmt.Errorf("look for table %s: %w", table, err)
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

// captures reads from the catalog what the triggers capture.
func captures(ctx context.Context, conn asker) ([]capture, error) {
	type found struct {
		OID             uint32
		Table, Function string
		Arguments       []byte
	}
	rows, err := conn.Query(ctx, `SELECT t.tgrelid, t.tgrelid::regclass::text, p.proname::text, t.tgargs FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
		WHERE t.tgname = $1::name AND NOT t.tgisinternal AND t.tgparentid = 0 ORDER BY 2`, triggerName)
	if err != nil {
		return nil, fmt.Errorf("look for the trigger: %w", err)
	}
	triggers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[found])
	if err != nil {
		return nil, fmt.Errorf("look for the trigger: %w", err)
	}
	var out []capture
	for _, t := range triggers {
		columns, err := columnsOf(ctx, conn, t.OID)
		if err != nil {
			return nil, err
		}
		c, err := captureOf(columns, t.Table, t.Function, strings.Split(string(t.Arguments), "\x00"))
		if err != nil {
			return nil, fmt.Errorf("the trigger on %s: %w", t.Table, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// captureOf reads the arguments of a trigger, as capture() or capture_row() does.
func captureOf(columns []column, table, function string, arguments []string) (c capture, err error) {
	c.table = table
	var users, numbers []string
	var id, idNumber string
	switch {
	case function == "capture" && len(arguments) > 4: // the last is empty
		users, numbers = arguments[:1], arguments[2:3]
		id, idNumber = arguments[1], arguments[3]
	case function == "capture_row" && len(arguments) > 12:
		users, numbers = fromArray(arguments[1]), fromArray(arguments[2])
		id, idNumber = arguments[3], arguments[4]
		c.prefix, c.lead = arguments[5] != "", arguments[6] != ""
	default:
		return c, errors.New("it is not from gateway attach")
	}
	if len(users) == 0 || len(users) != len(numbers) {
		return c, errors.New("it is not from gateway attach")
	}
	for i, name := range users {
		user, err := argument(columns, name, numbers[i])
		if err != nil {
			return c, err
		}
		c.users = append(c.users, user)
	}
	c.id, err = argument(columns, id, idNumber)
	return c, err
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

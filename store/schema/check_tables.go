package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// trigger looks at the tables that have the trigger, and at those that should.
func (d doctor) trigger(ctx context.Context) (string, error) {
	rows, err := d.conn.Query(ctx, `SELECT t.tgrelid, t.tgrelid::regclass::text, t.tgname::text, t.tgenabled = 'A',
			array(SELECT DISTINCT a.attname::text FROM pg_depend p JOIN pg_attribute a ON a.attrelid = p.refobjid AND a.attnum = p.refobjsubid
				WHERE p.classid = 'pg_trigger'::regclass AND p.objid = t.oid AND p.refclassid = 'pg_class'::regclass AND p.refobjsubid > 0 ORDER BY 1)
		FROM pg_trigger t WHERE t.tgname = ANY ($1::name[]) AND NOT t.tgisinternal AND t.tgparentid = 0 ORDER BY 2, 3`, triggerNames())
	if err != nil {
		return "", err
	}
	var tables []relation
	var table relation
	var name string
	var always bool
	var bound []string
	held := map[string][]string{} // columns that a condition names, by table
	capturing := map[uint32]bool{}
	if _, err := pgx.ForEachRow(rows, []any{&table.oid, &table.name, &name, &always, &bound}, func() error {
		if !always && name != recordName {
			return fmt.Errorf("the trigger %s on %s is not enabled ALWAYS", name, table.name)
		}
		if len(tables) == 0 || tables[len(tables)-1] != table {
			tables = append(tables, table)
		}
		capturing[table.oid] = capturing[table.oid] || name == triggerName
		if len(bound) > 0 {
			held[table.name] = bound
		}
		return nil
	}); err != nil {
		return "", err
	}
	if len(tables) == 0 {
		return "", errors.New("no table has the capture trigger")
	}
	var names []string
	for _, t := range tables {
		text := t.name
		if columns := held[t.name]; len(columns) > 0 {
			text += fmt.Sprintf(" (--when names %s: detach before such a column is dropped or retyped)", strings.Join(columns, ", "))
		}
		names = append(names, text)
	}
	return "on " + strings.Join(names, ", "), d.family(ctx, tables, capturing)
}

// family looks at tables that inherit from attached ones, and at attached ones
// that have nothing to do with each other. Those that feed through record() alone
// are not capturing: what their IDs are is known to their own triggers.
func (d doctor) family(ctx context.Context, tables []relation, capturing map[uint32]bool) error {
	inherited := map[uint32]bool{}
	for _, t := range tables {
		members, err := withChildren(ctx, d.conn, t.oid)
		if err != nil {
			return err
		}
		for _, m := range members[1:] {
			if inherited[m.oid] = true; !contains(tables, m.oid) {
				return &advisedError{what: fmt.Sprintf("rows of %s are not captured: it inherits from %s, and a trigger is not inherited", m.name, t.name), mend: "run gateway attach " + t.name + " again"}
			}
		}
	}
	var apart []string
	for _, t := range tables {
		if !inherited[t.oid] && capturing[t.oid] {
			apart = append(apart, t.name)
		}
	}
	if len(apart) > 1 {
		return &advisedError{ok: true, what: "on " + strings.Join(apart, ", ") + ": an ID that two of them have is one notification to the gateway, and one of the two rows is lost", mend: "give all except one a prefix before their IDs, see sql/README.md"}
	}
	return nil
}

// security looks for tables of which the feed sees no row.
func (d doctor) security(ctx context.Context) (string, error) {
	hidden, err := hiddenTables(ctx, d.conn)
	if err != nil {
		return "", err
	}
	var names, policies []string
	for _, t := range hidden {
		names = append(names, t.name)
		policies = append(policies, policy(t.name))
	}
	if len(hidden) > 0 {
		return "", &advisedError{what: "row-level security hides the rows of " + strings.Join(names, ", ") + " from the feed", mend: "as the owner of the table run: " + strings.Join(policies, " ")}
	}
	return "no row-level security hides rows from the feed", nil
}

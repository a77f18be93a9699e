package schema

import (
	"context"
	"fmt"
)

// viewOwner is with whose rights the feed reads the tables: the view's owner's,
// and the usual one's while there is no view.
const viewOwner = `coalesce((SELECT v.relowner FROM pg_class v JOIN pg_namespace s ON s.oid = v.relnamespace WHERE s.nspname = 'notification_gateway' AND v.relname = 'feed'),
	(SELECT u.oid FROM pg_roles u WHERE u.rolname = 'notification_gateway_owner'))`

// hiddenTables returns the tables that the mapping reads, or that are attached, and
// whose row-level security hides rows from the owner of the views: the feed would
// show none of them. The owner needs a policy of its own: one for
// everybody goes by settings that the gateway's sessions do not have
// (https://www.postgresql.org/docs/current/ddl-rowsecurity.html).
func hiddenTables(ctx context.Context, conn asker) ([]relation, error) {
	return relations(ctx, conn, "SELECT h.oid, h.oid::regclass::text FROM ("+hiddenTablesSQL("$1::name")+") h", triggerName)
}

// hiddenTablesSQL is the query of hiddenTables; trigger is an expression.
func hiddenTablesSQL(trigger string) string {
	return `SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		CROSS JOIN (SELECT r.oid, r.rolsuper OR r.rolbypassrls AS exempt FROM pg_roles r WHERE r.oid = ` + viewOwner + `) o
		WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND (c.relowner <> o.oid OR c.relforcerowsecurity) AND NOT o.exempt AND n.nspname NOT IN ('notification_gateway', 'information_schema') AND n.nspname !~ '^pg_'
			AND (has_table_privilege(o.oid, c.oid, 'SELECT') OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = ` + trigger + `))
			AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('r', '*') AND o.oid = ANY (p.polroles))
		ORDER BY c.oid::regclass::text`
}

// hiddenRows returns a line for each of the hiddenTables.
func hiddenRows(ctx context.Context, conn asker) ([]string, error) {
	tables, err := hiddenTables(ctx, conn)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, t := range tables {
		lines = append(lines, fmt.Sprintf("row-level security hides the rows of %s from the feed; as its owner run: %s", t.name, policy(t.name)))
	}
	return lines, nil
}

// policy lets the owner of the views read all rows of a table.
func policy(table string) string {
	return fmt.Sprintf("CREATE POLICY notification_gateway ON %s FOR SELECT TO notification_gateway_owner USING (true);", table)
}

package schema

import (
	"fmt"
	"strings"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// ScriptOptions says for whom a script is written.
type ScriptOptions struct {
	// NoTransaction leaves BEGIN and COMMIT out, for the transaction of another
	// tool. Outside of one the script fails.
	NoTransaction bool
	// From leaves out the migrations up to this version, which must be there.
	From int
}

// script writes steps, statements of PL/pgSQL, as a script that changes all or
// nothing. Run again it changes nothing. The role, the search_path and the
// lock_timeout are afterwards as they were before: with ours left standing,
// Django would make its next table in pg_catalog. table, where it is not empty, is
// resolved by the role's own path, before ours is pinned, into the variable target.
//
// The whole of it is one statement behind one that remembers: so no tool that
// sends each statement alone, or goes on after an error, can run a part of it.
func script(options ScriptOptions, table, declare, steps string) string {
	var b strings.Builder
	if !options.NoTransaction {
		b.WriteString("BEGIN;\n")
	}
	found := "''::text"
	if table != "" {
		found = "COALESCE(pg_catalog.to_regclass(" + quoteLiteral(table) + "::text)::pg_catalog.oid::text, ''::text)"
	}
	fmt.Fprintf(&b, `SELECT pg_catalog.set_config('notification_gateway.transaction'::text, pg_catalog.pg_current_xact_id()::text, true),
  pg_catalog.set_config('notification_gateway.role'::text, pg_catalog.current_setting('role'::text), true),
  pg_catalog.set_config('notification_gateway.path'::text, pg_catalog.current_setting('search_path'::text), true),
  pg_catalog.set_config('notification_gateway.lock_timeout'::text, pg_catalog.current_setting('lock_timeout'::text), true),
  pg_catalog.set_config('notification_gateway.target'::text, %s, true);
`, found)
	body := "DECLARE\n  target oid := nullif(current_setting('notification_gateway.target', true), '')::oid;\n" + declare + `BEGIN
  IF COALESCE(pg_catalog.current_setting('notification_gateway.transaction'::text, true), ''::text) OPERATOR(pg_catalog.<>) pg_catalog.pg_current_xact_id()::text THEN
    RAISE EXCEPTION 'run this script inside of a transaction: it has no BEGIN and no COMMIT of its own';
  END IF;
  PERFORM pg_catalog.set_config('search_path'::text, '` + pg.PinnedPath + `'::text, true);
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION 'this server is a standby: run this at the primary';
  END IF;
  SET LOCAL lock_timeout = '3s';
  PERFORM pg_advisory_xact_lock(1734440037, 101);
` + steps + `  PERFORM set_config('role', current_setting('notification_gateway.role'), true);
  PERFORM set_config('lock_timeout', current_setting('notification_gateway.lock_timeout'), true);
  PERFORM set_config('search_path', current_setting('notification_gateway.path'), true);
END `
	tag := dollarTag(body)
	fmt.Fprintf(&b, "DO %s\n%s%s;\n", tag, body, tag)
	if !options.NoTransaction {
		b.WriteString("COMMIT;\n")
	}
	return b.String()
}

// dollarTag returns a dollar quote that does not occur in text.
func dollarTag(text string) string {
	tag := "$gateway$"
	for n := 1; strings.Contains(text, tag); n++ {
		tag = fmt.Sprintf("$gateway%d$", n)
	}
	return tag
}

// execute is the PL/pgSQL step that runs a text of several statements. Each is
// analysed only when its turn comes, so it may name what the one before made.
func execute(text string) string {
	tag := dollarTag(text)
	return "  EXECUTE " + tag + "\n" + text + "\n" + tag + ";\n"
}

// MigrationScript returns the SQL of the migrations, the functions and of
// options as one script, for another tool to run.
func MigrationScript(options MigrateOptions, how ScriptOptions) (string, error) {
	all, err := migrations()
	if err != nil {
		return "", err
	}
	newest := all[len(all)-1].version
	if how.From < 0 || how.From > newest {
		return "", fmt.Errorf("there is no version %d: the newest is %d", how.From, newest)
	}
	var steps strings.Builder
	fmt.Fprintf(&steps, `  IF to_regclass('notification_gateway.migration') IS NOT NULL THEN
    EXECUTE 'SELECT coalesce(max(version), 0) FROM notification_gateway.migration' INTO installed;
  END IF;
  IF installed < %d THEN
    RAISE EXCEPTION 'the objects are at version %%, and this script begins after %d', installed;
  ELSIF installed > %d THEN
    RAISE EXCEPTION 'the objects are at version %%, this script knows only %[3]d: use a newer gateway', installed;
  END IF;
`, how.From, how.From, newest)
	for _, m := range all {
		if m.version > how.From {
			fmt.Fprintf(&steps, "  -- migration %d: %s\n  IF installed < %[1]d THEN\n%[3]s  END IF;\n", m.version, m.name, execute(m.text+"\n"+recordMigration(m)+";"))
		}
	}
	functions, err := functionsScript()
	if err != nil {
		return "", err
	}
	steps.WriteString("  -- functions\n" + execute(functions))
	if options.Mapping != "" {
		steps.WriteString("  -- mapping\n" + execute(options.Mapping) + execute("SET LOCAL ROLE notification_gateway_owner;\n"+revokePublic+"\nRESET ROLE") + "  PERFORM set_config('search_path', '" + pg.PinnedPath + "', true);\n")
	}
	if options.GrantTo != "" {
		granted, err := grantFunctions(quoteLiteral(options.GrantTo))
		if err != nil {
			return "", err
		}
		steps.WriteString("  -- grants\n" + execute(grantObjects(options.GrantTo)) + "  EXECUTE (" + granted + ");\n" + execute(pinRole(options.GrantTo)))
	}
	return script(how, "", "  installed integer := 0;\n", steps.String()), nil
}

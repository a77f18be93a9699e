package schema

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/sql"
)

// functionsScript makes every function as it is in this version, as the owner of
// the objects. Postgres lets everybody execute a new function; that is taken
// back. Functions that are there keep their grants.
func functionsScript() (string, error) {
	names, err := fs.Glob(sql.Functions, "functions/*.sql")
	if err != nil {
		return "", fmt.Errorf("list functions: %w", err)
	}
	var b strings.Builder
	b.WriteString("SET LOCAL ROLE notification_gateway_owner;\n")
	for _, name := range names {
		text, err := fs.ReadFile(sql.Functions, name)
		if err != nil {
			return "", fmt.Errorf("read function %q: %w", name, err)
		}
		b.Write(text)
		b.WriteString("\n")
	}
	b.WriteString(revokePublic + "\nRESET ROLE")
	return b.String(), nil
}

// revokePublic takes back what Postgres gives everybody: to call a new function.
// The functions of a mapping need it most. Whoever may call a trigger function may
// put it on a temporary table, and have it record() what they like. It runs as the
// owner of the objects.
const revokePublic = `DO $revoke$
DECLARE
  made regprocedure;
BEGIN
  FOR made IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'notification_gateway'::regnamespace AND p.proacl IS NULL AND pg_has_role(p.proowner, 'USAGE') LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', made);
  END LOOP;
END $revoke$;`

// applyFunctions makes the functions, and returns a line for each that was
// another one before.
func applyFunctions(ctx context.Context, tx pgx.Tx) ([]string, error) {
	script, err := functionsScript()
	if err != nil {
		return nil, err
	}
	before, err := functionSources(ctx, tx)
	if err != nil {
		return nil, err
	}
	if err := execScript(ctx, tx, script); err != nil {
		return nil, fmt.Errorf("make the functions: %w", err)
	}
	after, err := functionSources(ctx, tx)
	if err != nil {
		return nil, err
	}
	var done []string
	for name, source := range after {
		if was, ok := before[name]; ok && was != source {
			done = append(done, fmt.Sprintf("function %s replaced", name))
		}
	}
	slices.Sort(done)
	return done, nil
}

// functions compares the functions in the database with those of this version.
func (d doctor) functions(ctx context.Context) error {
	script, err := functionsScript()
	if err != nil {
		return err
	}
	there, err := functionSources(ctx, d.conn)
	if err != nil {
		return err
	}
	names, err := fs.Glob(sql.Functions, "functions/*.sql")
	if err != nil {
		return fmt.Errorf("list functions: %w", err)
	}
	for _, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".sql")
		missing := true
		for signature, source := range there {
			if !strings.HasPrefix(signature, name+"(") {
				continue
			}
			if missing = false; !strings.Contains(script, source) {
				return fmt.Errorf("the function %s is not the one of this gateway", signature)
			}
		}
		if missing {
			return fmt.Errorf("the function %s is missing", name)
		}
	}
	return nil
}

// functionSources returns the text of each function in our schema.
func functionSources(ctx context.Context, conn asker) (map[string]string, error) {
	rows, err := conn.Query(ctx, `SELECT format('%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), p.prosrc
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'notification_gateway'`)
	if err != nil {
		return nil, fmt.Errorf("read the functions: %w", err)
	}
	sources := map[string]string{}
	var name, source string
	if _, err := pgx.ForEachRow(rows, []any{&name, &source}, func() error { sources[name] = source; return nil }); err != nil {
		return nil, fmt.Errorf("read the functions: %w", err)
	}
	return sources, nil
}

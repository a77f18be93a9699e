package schema

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// MigrateOptions says what Migrate does besides installing the objects.
type MigrateOptions struct {
	Mapping     string // SQL text that creates the views feed and identity; empty leaves them as they are
	MappingName string // where Mapping comes from, for its errors; empty is "mapping"
	GrantTo     string // the gateway's run-time role; empty grants nothing new
}

// migrationLock is the advisory lock that makes two Migrates wait for each other.
const migrationLock = "SELECT pg_advisory_xact_lock(1734440037, 101)"

// Migrate installs or upgrades the database objects at url, idempotently and
// in one transaction with a lock timeout of 3 s: either all of it happened or
// nothing. The role it connects as must be allowed to create roles and a
// schema, and to grant SELECT on the CRM's tables. It returns what it did, a
// line each.
func Migrate(ctx context.Context, url string, options MigrateOptions) ([]string, error) {
	conn, err := pg.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is owed to a connection that is done
	var done []string
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, q := range []string{"SET LOCAL lock_timeout = '3s'", migrationLock} {
			if _, err := tx.Exec(ctx, q); err != nil {
				return fmt.Errorf("take the migration lock: %w", err)
			}
		}
		if done, err = applyMigrations(ctx, tx); err != nil {
			return pg.Advise(map[string]string{pg.InsufficientPrivilege: "it needs CREATEROLE, and CREATE on the database, see sql/README.md"}, err)
		}
		if options.Mapping != "" {
			if err := applyMapping(ctx, tx, options); err != nil {
				err = fmt.Errorf("apply the mapping: %w", err)
				return pg.Advise(map[string]string{
					pg.InsufficientPrivilege: "whoever migrates must be allowed to grant SELECT on the CRM's tables to notification_gateway_owner, see sql/README.md",
					pg.UndefinedTable:        "a mapping names its CRM's tables; for another CRM write one of your own, see sql/README.md",
				}, err)
			}
			done = append(done, "mapping applied")
		}
		roles, err := grantees(ctx, tx)
		if err != nil {
			return err
		}
		if options.GrantTo != "" {
			roles = append(roles, options.GrantTo)
			done = append(done, "granted to "+options.GrantTo)
		}
		for _, role := range roles {
			if err := grant(ctx, tx, role); err != nil {
				return pg.Advise(map[string]string{pg.UndefinedObject: "make it first, CREATE ROLE … LOGIN"}, fmt.Errorf("grant to %q: %w", role, err))
			}
		}
		return nil
	})
	if err != nil {
		return nil, pg.Advise(map[string]string{pg.LockNotAvailable: "a transaction holds what it changes; try again when it has ended"}, err)
	}
	return done, nil
}

// MigrationScript returns the SQL of all migrations and of options as one
// script, for people who apply it themselves.
func MigrationScript(options MigrateOptions) (string, error) {
	all, err := migrations()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("BEGIN;\nSET LOCAL lock_timeout = '3s';\n")
	for _, m := range all {
		fmt.Fprintf(&b, "\n-- migration %d: %s\n%s\n%s;\n", m.version, m.name, m.text, recordMigration(m))
	}
	if options.Mapping != "" {
		fmt.Fprintf(&b, "\n-- mapping\n%s\n", options.Mapping)
	}
	if options.GrantTo != "" {
		fmt.Fprintf(&b, "\n-- grants\n%s;\n", grantObjects(options.GrantTo))
		fmt.Fprintf(&b, "DO $grant$ BEGIN\n  EXECUTE (%s);\nEND $grant$;\n", fmt.Sprintf(grantFunctions, quoteLiteral(options.GrantTo)))
	}
	b.WriteString("COMMIT;\n")
	return b.String(), nil
}

type migration struct {
	version int
	name    string
	text    string
}

func migrations() ([]migration, error) {
	names, err := fs.Glob(sql.Migrations, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	all := make([]migration, 0, len(names)) // Glob sorts
	for _, name := range names {
		number, title, _ := strings.Cut(strings.TrimSuffix(path.Base(name), ".sql"), "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("migration %q has no number: %w", name, err)
		}
		text, err := fs.ReadFile(sql.Migrations, name)
		if err != nil {
			return nil, fmt.Errorf("read migration %q: %w", name, err)
		}
		all = append(all, migration{version, title, string(text)})
	}
	return all, nil
}

func applyMigrations(ctx context.Context, tx pgx.Tx) ([]string, error) {
	all, err := migrations()
	if err != nil {
		return nil, err
	}
	installed, err := installedVersion(ctx, tx)
	if err != nil {
		return nil, err
	}
	if newest := all[len(all)-1].version; installed > newest {
		return nil, fmt.Errorf("the objects are at version %d, this gateway knows only %d: use a newer gateway", installed, newest)
	}
	var done []string
	for _, m := range all {
		if m.version <= installed {
			continue
		}
		if err := execScript(ctx, tx, m.text+"\n"+recordMigration(m)); err != nil {
			return nil, fmt.Errorf("migration %d %s: %w", m.version, m.name, err)
		}
		done = append(done, fmt.Sprintf("migration %d %s applied", m.version, m.name))
	}
	return done, nil
}

func recordMigration(m migration) string {
	return fmt.Sprintf("INSERT INTO notification_gateway.migration (version, name) VALUES (%d, %s)", m.version, quoteLiteral(m.name))
}

func installedVersion(ctx context.Context, tx pgx.Tx) (int, error) {
	var exists bool
	if err := tx.QueryRow(ctx, "SELECT to_regclass('notification_gateway.migration') IS NOT NULL").Scan(&exists); err != nil {
		return 0, fmt.Errorf("look for the objects: %w", err)
	}
	if !exists {
		return 0, nil
	}
	var version int
	if err := tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM notification_gateway.migration").Scan(&version); err != nil {
		return 0, fmt.Errorf("read the objects' version: %w", err)
	}
	return version, nil
}

// execScript runs several statements in one simple query, inside tx.
func execScript(ctx context.Context, tx pgx.Tx, script string) error {
	_, err := tx.Conn().PgConn().Exec(ctx, script).ReadAll()
	return err
}

// grantees returns the roles that were granted before, so that views which a
// mapping made anew can be read by them again.
func grantees(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT DISTINCT r.rolname::text FROM pg_class c, aclexplode(c.relacl) a, pg_roles r
		WHERE c.oid = 'notification_gateway.log'::regclass AND a.grantee = r.oid AND a.grantee <> c.relowner`)
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	roles, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	return roles, nil
}

// grantFunctions yields the GRANT on every function the run-time role needs:
// all but the trigger function and disconnect, which is the CRM's.
const grantFunctions = `SELECT format('GRANT EXECUTE ON FUNCTION %%s TO %%I', string_agg(p.oid::regprocedure::text, ', '), %s::text)
	FROM pg_proc p WHERE p.pronamespace = 'notification_gateway'::regnamespace AND p.proname NOT IN ('capture', 'disconnect')`

func grantObjects(role string) string {
	name := pgx.Identifier{role}.Sanitize()
	return `GRANT USAGE ON SCHEMA notification_gateway TO ` + name + `;
GRANT SELECT ON notification_gateway.log, notification_gateway.migration TO ` + name + `;
DO $views$ BEGIN
  IF to_regclass('notification_gateway.feed') IS NOT NULL THEN GRANT SELECT ON notification_gateway.feed TO ` + name + `; END IF;
  IF to_regclass('notification_gateway.identity') IS NOT NULL THEN GRANT SELECT ON notification_gateway.identity TO ` + name + `; END IF;
END $views$`
}

func grant(ctx context.Context, tx pgx.Tx, role string) error {
	if err := execScript(ctx, tx, grantObjects(role)); err != nil {
		return err
	}
	var functions string
	if err := tx.QueryRow(ctx, fmt.Sprintf(grantFunctions, "$1"), role).Scan(&functions); err != nil {
		return fmt.Errorf("list functions: %w", err)
	}
	_, err := tx.Exec(ctx, functions)
	return err
}

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

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
)

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

// applyObjects brings tables and functions to this version, and returns a line
// for each change.
func applyObjects(ctx context.Context, tx pgx.Tx) ([]string, error) {
	migrated, err := applyMigrations(ctx, tx)
	if err != nil {
		return nil, err
	}
	replaced, err := applyFunctions(ctx, tx)
	if err != nil {
		return nil, err
	}
	return append(migrated, replaced...), nil
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

package schema

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

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
	defer conn.Close(ctx)
	var done []string
	err = conn.Begin(ctx, func(tx pgx.Tx) error {
		if err := onPrimary(ctx, tx); err != nil {
			return err
		}
		for _, q := range []string{"SET LOCAL lock_timeout = '3s'", migrationLock} {
			if _, err := tx.Exec(ctx, q); err != nil {
				return fmt.Errorf("take the migration lock: %w", err)
			}
		}
		if done, err = applyObjects(ctx, tx); err != nil {
			return pg.Advise(map[string]string{
				pg.InsufficientPrivilege: "it must be a member of notification_gateway_owner, and on the first time it needs CREATE on the database, and CREATEROLE where that role is missing, see sql/README.md",
			}, err)
		}
		if options.Mapping != "" {
			warnings, err := applyMapping(ctx, tx, options)
			if err != nil {
				err = fmt.Errorf("apply the mapping: %w", err)
				return pg.Advise(map[string]string{
					pg.InsufficientPrivilege: "whoever migrates must be allowed to grant SELECT on the CRM's tables to notification_gateway_owner, see sql/README.md",
				}, err)
			}
			done = append(append(done, "mapping applied"), warnings...)
		}
		hidden, err := hiddenRows(ctx, tx)
		if err != nil {
			return err
		}
		done = append(done, hidden...)
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
		if options.GrantTo == "" {
			return nil
		}
		if err := execScript(ctx, tx, pinRole(options.GrantTo)); err != nil {
			return fmt.Errorf("pin the search path of %q: %w", options.GrantTo, err)
		}
		path, err := pathOf(ctx, tx, options.GrantTo)
		done = append(done, path)
		return err
	})
	if err = sayWhere(ctx, conn, err); err != nil {
		return nil, pg.Advise(map[string]string{pg.LockNotAvailable: "a transaction holds what it changes; try again when it has ended"}, err)
	}
	return done, nil
}

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// applyMapping makes the views, and refuses those that the gateway could not
// read: once it is committed, every notification would be a reset.
func applyMapping(ctx context.Context, tx pgx.Tx, options MigrateOptions) (warnings []string, err error) {
	if at := regexp.MustCompile(`(?i)\bFROM\s+STDIN\b`).FindStringIndex(options.Mapping); at != nil { // Postgres would wait for its rows for ever
		return nil, fmt.Errorf("%s:%d: COPY … FROM STDIN has no input here", location(options, nil), 1+strings.Count(options.Mapping[:at[0]], "\n"))
	}
	var before, after string
	if err := tx.QueryRow(ctx, "SELECT pg_current_xact_id()::text").Scan(&before); err != nil {
		return nil, fmt.Errorf("begin with the mapping: %w", err)
	}
	if err := execScript(ctx, tx, options.Mapping); err != nil {
		return nil, &mappingError{missing: missingName(options.Mapping, err), err: fmt.Errorf("%s: %w", location(options, err), err)}
	}
	// It may have ended ours and begun one of its own.
	if err := tx.QueryRow(ctx, "SELECT pg_current_xact_id()::text").Scan(&after); err != nil {
		return nil, fmt.Errorf("end with the mapping: %w", err)
	}
	if before != after || tx.Conn().PgConn().TxStatus() != 'T' {
		return nil, fmt.Errorf("%s: it must not end the transaction: take COMMIT and ROLLBACK out and run this again with --grant-to, because what came before them is done", location(options, nil))
	}
	if err := pg.Pin(ctx, tx); err != nil { // the mapping may have set a path of its own
		return nil, err
	}
	if err := execScript(ctx, tx, "SET LOCAL ROLE notification_gateway_owner;\n"+revokePublic+"\nRESET ROLE"); err != nil {
		return nil, fmt.Errorf("take the mapping's functions back from everybody: %w", err)
	}
	// As the view's owner: the role that migrates may have the owner's rights only by membership.
	if _, err := tx.Exec(ctx, `SELECT set_config('role', pg_get_userbyid(c.relowner), true) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'notification_gateway' AND c.relname = 'feed'`); err != nil {
		return nil, fmt.Errorf("look at the views: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, checkDeadline)
	defer cancel()
	d := doctor{conn: tx}
	for _, at := range []func(context.Context) (string, error){d.feed, d.identity, d.sample} {
		_, err := at(ctx)
		var advised *advisedError
		if errors.As(err, &advised) { // of the rows that are there now, not of the mapping alone
			warnings = append(warnings, advised.what+": "+advised.mend)
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", location(options, nil), err)
		}
	}
	if _, err := tx.Exec(ctx, "RESET ROLE"); err != nil {
		return nil, fmt.Errorf("return to the role: %w", err)
	}
	return warnings, nil
}

// location says where in the mapping err is, by name and line where Postgres
// tells: it counts the characters of all that it was sent.
func location(options MigrateOptions, err error) string {
	name := cmp.Or(options.MappingName, "mapping")
	text := []rune(options.Mapping)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Position < 1 {
		return name
	}
	return fmt.Sprintf("%s:%d", name, 1+strings.Count(string(text[:min(int(refused.Position)-1, len(text))]), "\n"))
}

// mappingError is why Postgres refused a mapping. missing is the name that it did
// not find, if that was the reason.
type mappingError struct {
	missing string
	err     error
}

func (e *mappingError) Error() string { return e.err.Error() }
func (e *mappingError) Unwrap() error { return e.err }

var (
	identifier = regexp.MustCompile(`^("[^"]+"|[\pL_][\pL\pN_$]*)`)
	quotedName = regexp.MustCompile(`"([^"]+)"`)
)

// missingName returns the name that Postgres did not find, empty when err is of
// another kind. Some errors have its position, the others quote it in their
// message, whatever language that is in.
func missingName(mapping string, err error) string {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || !pg.IsMissing(err) && pg.SQLState(err) != pg.UndefinedObject {
		return ""
	}
	if text := []rune(mapping); refused.Position > 0 && int(refused.Position) <= len(text) {
		name := identifier.FindString(string(text[refused.Position-1:]))
		if quoted := strings.Trim(name, `"`); quoted != name {
			return quoted
		}
		return strings.ToLower(name)
	}
	if m := quotedName.FindStringSubmatch(refused.Message); m != nil {
		return m[1]
	}
	return ""
}

// sayWhere adds to the error of a mapping in which schema the missing name is: a
// mapping runs under the pinned path, where each name needs its schema.
func sayWhere(ctx context.Context, conn asker, err error) error {
	var mapping *mappingError
	if !errors.As(err, &mapping) {
		return err
	}
	var found *string
	if err := conn.QueryRow(ctx, `SELECT string_agg(DISTINCT format('%I.%I', n.nspname, o.name), ' or ') FROM (SELECT c.relname, c.relnamespace FROM pg_class c
			UNION ALL SELECT p.proname, p.pronamespace FROM pg_proc p UNION ALL SELECT t.typname, t.typnamespace FROM pg_type t) o (name, schema)
		JOIN pg_namespace n ON n.oid = o.schema WHERE o.name = $1::name AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'`, mapping.missing).Scan(&found); err == nil && found != nil {
		return fmt.Errorf("%w: a mapping runs under search_path = %s, so write %s", mapping, pg.PinnedPath, *found)
	}
	return pg.Advise(map[string]string{pg.UndefinedTable: "a mapping names its CRM's tables; for another CRM write one of your own, see sql/README.md"}, err)
}

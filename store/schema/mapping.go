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
)

// applyMapping makes the views, and refuses those that the gateway could not
// read: once it is committed, every notification would be a reset.
func applyMapping(ctx context.Context, tx pgx.Tx, options MigrateOptions) error {
	if at := regexp.MustCompile(`(?i)\bFROM\s+STDIN\b`).FindStringIndex(options.Mapping); at != nil { // Postgres would wait for its rows for ever
		return fmt.Errorf("%s:%d: COPY … FROM STDIN has no input here", place(options, nil), 1+strings.Count(options.Mapping[:at[0]], "\n"))
	}
	var before, after string
	if err := tx.QueryRow(ctx, "SELECT pg_current_xact_id()::text").Scan(&before); err != nil {
		return fmt.Errorf("begin with the mapping: %w", err)
	}
	if err := execScript(ctx, tx, options.Mapping); err != nil {
		return fmt.Errorf("%s: %w", place(options, err), err)
	}
	// It may have ended ours and begun one of its own.
	if err := tx.QueryRow(ctx, "SELECT pg_current_xact_id()::text").Scan(&after); err != nil {
		return fmt.Errorf("end with the mapping: %w", err)
	}
	if before != after || tx.Conn().PgConn().TxStatus() != 'T' {
		return fmt.Errorf("%s: it must not end the transaction: take COMMIT and ROLLBACK out and run this again with --grant-to, because what came before them is done", place(options, nil))
	}
	// As the view's owner: whoever migrates may have its rights only so.
	if _, err := tx.Exec(ctx, `SELECT set_config('role', pg_get_userbyid(c.relowner), true) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'notification_gateway' AND c.relname = 'feed'`); err != nil {
		return fmt.Errorf("look at the views: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, checkDeadline)
	defer cancel()
	d := doctor{conn: tx.Conn()}
	for _, at := range []func(context.Context) (string, error){d.feed, d.identity, d.sample} {
		if _, err := at(ctx); err != nil {
			return fmt.Errorf("%s: %w", place(options, nil), err)
		}
	}
	_, err := tx.Exec(ctx, "RESET ROLE")
	return err
}

// place says where in the mapping err is, by name and line where Postgres
// tells: it counts the characters of all that it was sent.
func place(options MigrateOptions, err error) string {
	name := cmp.Or(options.MappingName, "mapping")
	var pg *pgconn.PgError
	text := []rune(options.Mapping)
	if !errors.As(err, &pg) || pg.Position < 1 {
		return name
	}
	return fmt.Sprintf("%s:%d", name, 1+strings.Count(string(text[:min(int(pg.Position)-1, len(text))]), "\n"))
}

package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// explain adds to an error what whoever reads it in /readyz should do about it.
func (f *Feed) explain(err error) error {
	if hint := f.hint(err); hint != "" {
		return fmt.Errorf("%s: %w", hint, err)
	}
	return err
}

// hint goes by the SQLSTATE
// (https://www.postgresql.org/docs/current/errcodes-appendix.html).
func (f *Feed) hint(err error) string {
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "Postgres does not answer in time"
	case !errors.As(err, &pg):
		if unreachable := (connectError{}); errors.As(err, &unreachable) && !strings.Contains(err.Error(), "read only connection") {
			return "Postgres cannot be reached; if this lasts, check DATABASE_URL and the network"
		}
		if strings.Contains(err.Error(), "read only connection") { // pgconn's own
			return readOnly
		}
		return ""
	}
	switch pg.Code {
	case "25006":
		return readOnly
	case "42501":
		return "the role lacks rights; run gateway migrate --grant-to ROLE"
	case "3F000", "42P01", "42883", "42703": // schema, table or view, function, column
		return "objects are missing; run gateway migrate --mapping NAME|FILE and gateway attach TABLE"
	case "3D000", "28000", "28P01": // database, authorization, password
		return "Postgres takes no connection with this DATABASE_URL; see the database, the role, the password and pg_hba.conf"
	case "53300":
		return "Postgres takes no more connections; see max_connections and the role's CONNECTION LIMIT"
	}
	return ""
}

// advise adds to the error of an administrator's command what to do about its
// SQLSTATE.
func advise(advice map[string]string, err error) error {
	if text := advice[sqlState(err)]; text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// sqlState returns Postgres's code of an error, empty where it is not its own
// (https://www.postgresql.org/docs/current/errcodes-appendix.html).
func sqlState(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return ""
	}
	return pg.Code
}

const readOnly = "only a primary that may be written to will do; is this a standby, or is default_transaction_read_only on"

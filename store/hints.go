package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// explain adds to an error what the operator who reads it in /readyz should do
// about it.
func (f *Feed) explain(err error) error {
	if hint := f.hint(err); hint != "" {
		return fmt.Errorf("%s: %w", hint, err)
	}
	return err
}

// hint says what to do about an error of Postgres, empty when it cannot say.
func (f *Feed) hint(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "Postgres does not answer in time"
	case pg.SQLState(err) == "":
		if unreachable := (pg.ConnectError{}); errors.As(err, &unreachable) && !strings.Contains(err.Error(), "read only connection") {
			return "Postgres cannot be reached; if this lasts, check DATABASE_URL and the network"
		}
		if strings.Contains(err.Error(), "read only connection") { // pgconn's own
			return readOnly
		}
		return ""
	}
	switch {
	case pg.SQLState(err) == pg.ReadOnly:
		return readOnly
	case pg.SQLState(err) == pg.InsufficientPrivilege:
		return "the role lacks rights; run gateway migrate --grant-to ROLE"
	case pg.IsMissing(err):
		return "objects are missing; run gateway migrate --mapping NAME|FILE and gateway attach TABLE"
	case pg.IsLoginError(err):
		return "Postgres takes no connection with this DATABASE_URL; see the database, the role, the password and pg_hba.conf"
	case pg.SQLState(err) == pg.TooManyConnections:
		return "Postgres takes no more connections; see max_connections and the role's CONNECTION LIMIT"
	}
	return ""
}

const readOnly = "only a primary that may be written to will do; is this a standby, or is default_transaction_read_only on"

package pg

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// The SQLSTATEs that a decision or an advice depends on
// (https://www.postgresql.org/docs/current/errcodes-appendix.html).
const (
	ReadOnly              = "25006" // read_only_sql_transaction
	InvalidAuthorization  = "28000"
	InvalidPassword       = "28P01"
	DependentObjects      = "2BP01" // dependent_objects_still_exist
	InvalidCatalog        = "3D000" // no such database
	InvalidSchema         = "3F000" // no such schema
	InsufficientPrivilege = "42501"
	UndefinedColumn       = "42703"
	UndefinedObject       = "42704" // no such role, type, …
	DuplicateObject       = "42710"
	UndefinedFunction     = "42883"
	UndefinedTable        = "42P01"
	TooManyConnections    = "53300"
	LockNotAvailable      = "55P03" // lock_timeout
	QueryCanceled         = "57014" // statement_timeout, too
)

// SQLState returns Postgres's code of an error, and empty for an error that is
// not Postgres's own.
func SQLState(err error) string {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return ""
	}
	return refused.Code
}

// IsMissing reports whether a schema, table, view, function or column is not
// there.
func IsMissing(err error) bool {
	switch SQLState(err) {
	case InvalidSchema, UndefinedTable, UndefinedFunction, UndefinedColumn:
		return true
	}
	return false
}

// IsLoginError reports whether Postgres refused the database, the role or the
// password of a connection.
func IsLoginError(err error) bool {
	switch SQLState(err) {
	case InvalidCatalog, InvalidAuthorization, InvalidPassword:
		return true
	}
	return false
}

// IsObjectError reports whether a statement failed because of the objects that
// it names: they are missing, of another kind, or may not be read.
func IsObjectError(err error) bool {
	state := SQLState(err)
	return strings.HasPrefix(state, "42") || strings.HasPrefix(state, "3F")
}

// IsDataError reports whether Postgres could not read a text as a value of its
// column's type (class 22, data exception): no row has such a value. That a view
// is missing or may not be read is another thing, and not the client's fault.
func IsDataError(err error) bool { return strings.HasPrefix(SQLState(err), "22") }

// IsEncodingError reports whether a text could not be sent in the session's
// encoding (https://www.postgresql.org/docs/current/multibyte.html).
func IsEncodingError(err error) bool {
	switch SQLState(err) {
	case "22021", "22P05": // character_not_in_repertoire, untranslatable_character
		return true
	}
	return false
}

// IsTimeLimit reports whether a time limit of the session, which a pooler may
// have left on it, ended a statement.
func IsTimeLimit(err error) bool {
	switch SQLState(err) {
	case QueryCanceled, LockNotAvailable:
		return true
	}
	return false
}

// IsConnectionEnd reports whether an error says that the session is over, or that
// the server may not be written to (classes 08 and 57, and read_only_sql_transaction).
func IsConnectionEnd(err error) bool {
	state := SQLState(err)
	return strings.HasPrefix(state, "08") || strings.HasPrefix(state, "57") || state == ReadOnly
}

// IsRowError reports whether a statement failed because of what it read, not
// because of the server, the connection, the session or a lock. A view may
// raise any SQLSTATE, so these are the classes that are not a row's.
func IsRowError(err error) bool {
	state := SQLState(err)
	if len(state) != 5 {
		return false
	}
	switch state[:2] {
	case "08", "25", "26", "28", "3D", "40", "53", "55", "57", "58":
		return false
	}
	return state != "0A000" // a prepared plan whose result has changed is made anew
}

// Advise adds to the error of an administrator's command what to do about its
// SQLSTATE.
func Advise(advice map[string]string, err error) error {
	if text := advice[SQLState(err)]; text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

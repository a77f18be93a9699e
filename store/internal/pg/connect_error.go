package pg

import (
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ConnectCause drops the user and database that pgx puts in front of the
// reason: a log shows the reason, never the connection string.
func ConnectCause(err error) error {
	var refused *pgconn.ConnectError
	if errors.As(err, &refused) {
		return ConnectError{refused.Unwrap()}
	}
	return err
}

// ConnectError is why no connection was had. pgx tries every address, with TLS
// and without where sslmode allows both, and has a line for each try.
type ConnectError struct{ error }

func (e ConnectError) Unwrap() error { return e.error }

// Error is one line: each reason once, behind the addresses that gave it. That
// a server has no TLS is none where something else failed too.
func (e ConnectError) Error() string {
	const noTLS = "tls error: server refused TLS connection"
	var reasons []string
	at := map[string][]string{} // addresses by reason
	for line := range strings.SplitSeq(e.error.Error(), "\n") {
		address, rest, tried := strings.Cut(line, " (")
		_, reason, named := strings.Cut(rest, "): ") // the host's name
		if !tried || !named {
			address, reason = "", strings.TrimPrefix(line, "hostname resolving error: ")
		}
		reason = strings.Replace(reason, " "+address+":", ":", 1)
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
		if address != "" && !slices.Contains(at[reason], address) {
			at[reason] = append(at[reason], address)
		}
	}
	if len(reasons) > 1 {
		reasons = slices.DeleteFunc(reasons, func(r string) bool { return r == noTLS })
	}
	for i, r := range reasons {
		if len(at[r]) > 0 {
			reasons[i] = strings.Join(at[r], ", ") + ": " + r
		}
	}
	return strings.Join(reasons, "; ")
}

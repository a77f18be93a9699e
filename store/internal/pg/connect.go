// Package pg holds what every connection to Postgres shares: how it is set up,
// what its errors mean, and what of them may be shown.
package pg

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ApplicationName is what every connection announces
// (https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-APPLICATION-NAME).
const ApplicationName = "notification_gateway"

// Prepare sets what every connection of the gateway has. Only what a pooler
// passes on may stand in the start-up packet, and nothing is prepared by name
// until it is known that a session stays with one server process
// (https://www.pgbouncer.org/features.html#sql-feature-map-for-pooling-modes).
func Prepare(c *pgx.ConnConfig) {
	c.RuntimeParams["application_name"] = ApplicationName
	c.RuntimeParams["timezone"] = "UTC"
	c.RuntimeParams["datestyle"] = "ISO"                  // which pgx reads
	c.RuntimeParams["client_encoding"] = "UTF8"           // whatever the database's is: streams and JSON are UTF-8
	c.RuntimeParams["standard_conforming_strings"] = "on" // for the patterns in our functions
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
}

// PinnedPath is the search_path under which every statement of the gateway runs.
// Under any other one a function or an operator that somebody else has made, and
// whose argument types fit better, is called in place of Postgres's own, with the
// rights of the gateway's role
// (https://www.postgresql.org/support/security/CVE-2018-1058/).
const PinnedPath = "pg_catalog, pg_temp"

// OnlyPrimary makes a connection try the next host where one is a standby or read
// only, unless the connection string says otherwise. A standby's snapshots hide
// running transactions.
func OnlyPrimary(c *pgx.ConnConfig) {
	if c.ValidateConnect == nil {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
}

// IsDirect reports whether conn's server process is the one that greeted it: a
// pooler greets with a process ID of its own making. The path is not pinned yet,
// so the name is qualified.
func IsDirect(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()").Scan(&pid); err != nil {
		return false, fmt.Errorf("ask for the server process: %w", err)
	}
	return pid == conn.PgConn().PID(), nil
}

// Tune sets a session up that stays with one server process. It pins the path;
// it makes plans that do not depend on the parameters (a batch of one and a
// batch of a thousand use the same index); and it leaves time limits to us: what
// the database or the role has for its applications would end the feed while it
// waits to be notified, and fail a whole batch for a row that is slow. A commit
// of ours waits for no standby: one that hangs must not stop the gateway. It changes
// the session, so it is not for one that a pooler lends to others: there each
// statement pins the path for itself, see Query.
//
// The path is no start-up parameter, because poolers refuse one that they do not
// know.
func Tune(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.PgConn().Exec(ctx, `SET search_path = `+PinnedPath+`; SET synchronous_commit = local; SET jit = off; SET plan_cache_mode = force_generic_plan; SET statement_timeout = 0; SET lock_timeout = 0;
		SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0;
		SELECT pg_catalog.set_config('transaction_timeout', '0', false) WHERE pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL -- since 17`).ReadAll()
	if err != nil {
		return fmt.Errorf("set the session up: %w", err)
	}
	return nil
}

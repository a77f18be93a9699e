package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// errOtherServer is returned for a connection of the pool that does not reach
// the server that the feed follows: a standby, a primary that was replaced, or
// another life of the same server. Its rows would be missing, and clients would be
// moved past them.
var errOtherServer = errors.New("the pool reached another server, or another life of it, than the feed follows")

// identityKey finds the identity among a connection's custom data.
const identityKey = "notification_gateway identity"

// admit sets a new connection of the pool up, and finds out which server it
// reaches. A standby is refused.
func (s *Store) admit(ctx context.Context, conn *pgx.Conn) error {
	direct, err := pg.IsDirect(ctx, conn)
	if err == nil && direct {
		err = pg.Tune(ctx, conn)
	}
	s.direct.Store(direct && err == nil)
	if err != nil {
		return err
	}
	id, err := identify(ctx, conn, direct)
	switch {
	case err == nil:
		conn.PgConn().CustomData()[identityKey] = id
	case s.server.Load() != nil || !pg.IsObjectError(err):
		return err
	} // else migrate has not run yet, which is for the statement to say
	if !s.follows(conn) {
		return errOtherServer
	}
	return nil
}

// recheck reports whether a connection that is about to be used still reaches the
// server that the feed follows. The pool closes one that does not, and makes
// another.
func (s *Store) recheck(_ context.Context, conn *pgx.Conn) (bool, error) { return s.follows(conn), nil }

// follows reports whether conn reaches the server that the feed follows. Before
// the feed has reached one nothing is loaded or replayed.
func (s *Store) follows(conn *pgx.Conn) bool {
	server := s.server.Load()
	return server == nil || conn.PgConn().CustomData()[identityKey] == server.identity
}

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// ErrNotReady is returned while the feed has not reached Postgres yet; the
// caller answers 503 and the client comes back.
var ErrNotReady = errors.New("the feed has not reached Postgres yet")

// Config is what a Store needs. It holds no default that differs from its zero
// value but where a comment says so.
type Config struct {
	URL        string        // connection string for queries, pooled
	ListenURL  string        // direct connection for LISTEN; empty is URL
	Retention  time.Duration // how long a cursor stays good; required
	Recipients RecipientMode // where a token's recipient comes from; empty is RecipientAuto
	Logger     *slog.Logger
	Metrics    *Metrics
}

// Store reads notifications and recipients. Its methods may be called from any
// goroutine; the caller owns it and closes it.
type Store struct {
	config           Config
	pool             *pgxpool.Pool
	recent           *recent  // written by the feed
	prefetch         prefetch // filled by the feed
	pruning          pruning
	server           serverState // learned by the feed
	batches, replays loadOptions // how rows are loaded for either
	rowStatement     rowStatement
	replayTurns      *turns
	unread           unreadLists
	identity         identitySeen
	rowSize          atomic.Int64 // of the last page that was loaded, in bytes; where the next one begins to guess
	direct           atomic.Bool  // the pool's connections go to Postgres itself; written at each connect
}

// CheckURL returns an error for a connection string that no Store can be opened
// with, and else the names of the parameters in it that are dropped. Neither shows
// anything else of it.
func CheckURL(url string) (dropped []string, err error) {
	_, dropped, err = pg.ParseURL(url)
	return dropped, err
}

// Open makes a Store. It does not connect: Postgres may still be down. A
// connection string that cannot be parsed is an error, which never holds it.
func Open(ctx context.Context, config Config) (*Store, error) {
	pc, err := pg.ParsePoolURL(config.URL)
	if err != nil {
		return nil, err
	}
	pg.Prepare(pc.ConnConfig)
	pg.OnlyPrimary(pc.ConnConfig)
	s := &Store{
		config: config, recent: newRecent(recentRows),
		batches: loadOptions{deadline: batchPageTimeout, bytes: loadBytes}, replays: loadOptions{deadline: replayPageTimeout, bytes: replayBytes},
		prefetch: prefetch{maxPerRow: prefetchQuick},
	}
	// The driver's default closes a connection whose statement is given up.
	pc.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &canceller{conn: conn, direct: &s.direct}
	}
	pc.AfterConnect, pc.PrepareConn = s.admit, s.recheck
	if s.pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		return nil, fmt.Errorf("make the pool: %w", err)
	}
	lists := pc.Copy()
	lists.MaxConns, lists.MinConns, lists.MinIdleConns = unreadConns, 0, 0
	s.unread.turns, s.unread.limit, s.unread.late = newTurns(unreadConns, 1), unreadDeadline, map[string]time.Time{}
	if s.unread.pool, err = pgxpool.NewWithConfig(ctx, lists); err != nil {
		s.pool.Close()
		return nil, fmt.Errorf("make the pool of the unread lists: %w", err)
	}
	s.replayTurns = newTurns(max(1, int(pc.MaxConns)-1), replaysOfUser) // a connection is left for what is live
	return s, nil
}

// Close ends all connections and waits for those in use.
func (s *Store) Close() {
	s.unread.pool.Close()
	s.pool.Close()
}

// ParseCursor reads a last event ID. Its error is ErrNotReady or wraps a
// *ResetError.
func (s *Store) ParseCursor(text string) (Cursor, error) {
	server := s.server.Load()
	if server == nil {
		return Cursor{}, ErrNotReady
	}
	c, err := parseCursor(text, server.install)
	if err != nil {
		return Cursor{}, err
	}
	now := s.server.Now()
	switch {
	case c.at.Before(now.Add(-s.config.Retention)):
		return Cursor{}, &ResetError{Reason: ResetExpired}
	case c.at.After(now.Add(cursorAhead)):
		return Cursor{}, &ResetError{Reason: ResetFuture}
	}
	if o, _ := server.origin(c); o == originUnknown {
		return Cursor{}, &ResetError{Reason: ResetForeign}
	}
	return server.adopt(c), nil
}

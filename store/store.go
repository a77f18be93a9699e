package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ApplicationName is what every connection announces
// (https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-APPLICATION-NAME).
const ApplicationName = "notification_gateway"

// ErrNotReady is returned while the feed has not reached Postgres yet; the
// caller answers 503 and the client comes back.
var ErrNotReady = errors.New("the feed has not reached Postgres yet")

// Config is what a Store needs. It holds no default that differs from its zero
// value but where a comment says so.
type Config struct {
	URL       string        // connection string for queries, pooled
	ListenURL string        // direct connection for LISTEN; empty is URL
	Retention time.Duration // how long a cursor stays good; required
	Lookup    bool          // recipients come from the view identity, not from the claim
	Logger    *slog.Logger
	Metrics   *Metrics
}

// Store reads notifications and recipients. Its methods may be called from any
// goroutine; the caller owns it and closes it.
type Store struct {
	config Config
	pool   *pgxpool.Pool
	server atomic.Pointer[server] // set by the feed at each connect; nil before
	clock  atomic.Int64           // the server's clock at the last poll, in µs; written by the feed
}

// server is what the feed learnt of the server it is connected to.
type server struct {
	install     [16]byte
	incarnation uint32
	idType      string // SQL name of feed.id's type
	keyType     string // SQL name of feed.user_key's type
}

// Open makes a Store. It does not connect: Postgres may still be down. A
// connection string that cannot be parsed is an error, which never holds it.
func Open(ctx context.Context, config Config) (*Store, error) {
	pc, err := pgxpool.ParseConfig(config.URL)
	if err != nil {
		return nil, errors.New("the connection string cannot be parsed")
	}
	prepare(pc.ConnConfig)
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("make the pool: %w", err)
	}
	return &Store{config: config, pool: pool}, nil
}

// Close ends all connections and waits for those in use.
func (s *Store) Close() { s.pool.Close() }

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
	now := time.UnixMicro(s.clock.Load())
	switch {
	case c.at.Before(now.Add(-s.config.Retention)):
		return Cursor{}, &ResetError{Reason: "expired"}
	case c.at.After(now.Add(cursorAhead)):
		return Cursor{}, &ResetError{Reason: "future"}
	}
	return c, nil
}

// prepare sets what every connection of the gateway has: its name, UTC, and
// plans that do not depend on the parameters (a batch of one and a batch of a
// thousand use the same index).
func prepare(c *pgx.ConnConfig) {
	for name, value := range map[string]string{
		"application_name": ApplicationName,
		"timezone":         "UTC",
		"jit":              "off",
		"plan_cache_mode":  "force_generic_plan",
	} {
		c.RuntimeParams[name] = value
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
}

// connect opens one connection for an administrator's command.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the connection string cannot be parsed")
	}
	prepare(c)
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", connectCause(err))
	}
	return conn, nil
}

// connectCause drops the user, host and database that pgx puts in front of
// the reason: a log shows the reason, never the connection string.
func connectCause(err error) error {
	var ce interface{ Unwrap() error }
	if errors.As(err, &ce) {
		if cause := ce.Unwrap(); cause != nil {
			return cause
		}
	}
	return err
}

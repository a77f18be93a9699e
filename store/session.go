package store

import (
	"context"
	"fmt"
	"time"
)

const sessionDeadline = 5 * time.Second

// SessionKey returns the key that signs the gateway's own sessions. It is the
// same for every replica, and another one after a restore. Its error is that
// Postgres could not be asked, or that its objects are older than this gateway.
func (s *Store) SessionKey(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionDeadline)
	defer cancel()
	var key []byte
	if err := s.queryRow(ctx, "SELECT notification_gateway.session_key()").Scan(&key); err != nil {
		return nil, fmt.Errorf("read the session key: %w", err)
	}
	return key, nil
}

// SinceDisconnect returns how long ago one of the keys was disconnected, by the
// server's clock, if that was within a time; else ok is false. The keys are a user's,
// for disconnect(), and a session's, for its sign-out.
func (s *Store) SinceDisconnect(ctx context.Context, keys []string, within time.Duration) (ago time.Duration, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, sessionDeadline)
	defer cancel()
	var seconds *float64
	err = s.queryRow(ctx, `SELECT extract(epoch FROM notification_gateway.last_disconnect($1::text[], make_interval(secs => $2::float8)))::float8`,
		keys, within.Seconds()).Scan(&seconds)
	if err != nil {
		return 0, false, fmt.Errorf("look for a disconnect: %w", err)
	}
	if seconds == nil {
		return 0, false, nil
	}
	return time.Duration(*seconds * float64(time.Second)), true, nil
}

// ChangeSession tells every replica what became of a session. Its error is that
// Postgres could not be asked, or that its objects are older than this gateway.
func (s *Store) ChangeSession(ctx context.Context, session, userKey, change string) error {
	ctx, cancel := context.WithTimeout(ctx, sessionDeadline)
	defer cancel()
	var nothing string // void, which has no binary form
	err := s.queryRow(ctx, "SELECT notification_gateway.change_session($1::text, $2::text, $3::text)::text", session, userKey, change).Scan(&nothing)
	if err != nil {
		return fmt.Errorf("change a session: %w", err)
	}
	return nil
}

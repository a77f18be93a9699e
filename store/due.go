package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

const (
	dueRows   = 1000                   // moved into the log in one transaction
	dueSpread = 200 * time.Millisecond // replicas do not ask at once: mostly the first one moves all
	dueRetry  = 10 * time.Second       // after Postgres has refused
)

// dueTimer is when this replica looks for notifications that have become due. Each
// poll says anew when the next one is, so that one which is inserted, re-dated or
// moved by another replica is known at once. It is owned by the feed's goroutine.
type dueTimer struct {
	next   time.Time     // due time that was learned, by the server's clock
	at     time.Time     // when we look; zero: no notification waits
	spread time.Duration // of this replica for that time
	until  time.Time     // Postgres has refused: not before
}

// learn takes what a poll says: the next due time and the time, both by the
// server's clock.
func (t *dueTimer) learn(next, now time.Time) {
	if next.IsZero() {
		t.next, t.at = time.Time{}, time.Time{}
		return
	}
	if !next.Equal(t.next) {
		t.spread = rand.N(dueSpread)
	}
	t.next, t.at = next, time.Now().Add(next.Sub(now)+t.spread)
	if t.at.Before(t.until) {
		t.at = t.until
	}
}

// passed reports whether something is due.
func (t *dueTimer) passed(now time.Time) bool { return !t.at.IsZero() && !now.Before(t.at) }

// within shortens a pause to the due time.
func (t *dueTimer) within(pause time.Duration, now time.Time) time.Duration {
	if t.at.IsZero() {
		return pause
	}
	return max(0, min(pause, t.at.Sub(now)))
}

// releaseDue moves notifications that have become due into the log, and reports
// whether it moved any: the next poll brings them. What Postgres refuses is logged
// and tried again later, because the rest of the feed works.
func (f *Feed) releaseDue(ctx context.Context, conn *pgx.Conn) (released bool, err error) {
	now := time.Now()
	if !f.due.passed(now) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	var rows int
	err = pg.QueryRow(ctx, conn, f.tuned, "SELECT released FROM notification_gateway.release_due($1::integer)", dueRows).Scan(&rows)
	var refused *pgconn.PgError
	if err != nil && errors.As(err, &refused) && !pg.IsConnectionEnd(err) && ctx.Err() == nil {
		f.store.config.Logger.Error("notifications that are due stay where they are", "err", err)
		f.due.until = now.Add(dueRetry)
		f.due.at = f.due.until
		return false, nil
	}
	f.due.at = time.Time{} // the next poll says what follows
	f.store.config.Metrics.released.Add(float64(rows))
	return rows > 0, err
}

// dueWaitingSQL counts the notifications that wait for their time. The limit bounds
// what it costs.
const dueWaitingSQL = "SELECT count(*) FROM (SELECT FROM notification_gateway.due LIMIT 100000) d"

// reportDue measures how many notifications wait for their time. Objects of before
// there were any have no such table.
func (s *Store) reportDue(ctx context.Context) {
	if s.server.Load() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pruneDeadline)
	defer cancel()
	var waiting int
	if err := s.queryRow(ctx, dueWaitingSQL).Scan(&waiting); err == nil {
		s.config.Metrics.waiting.Set(float64(waiting))
	}
}

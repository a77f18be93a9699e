package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

const probeWait = 2 * time.Second // for a notification to ourselves

// errPollOnly is said of a connection on which LISTEN does not work.
var errPollOnly = errors.New("LISTEN does not work on this connection (a pooler in transaction mode?), so the log is only polled; " +
	"set GATEWAY_LISTEN_DATABASE_URL to a direct connection")

// probe is a notification to ourselves that is under way.
type probe struct {
	channel string
	arrived bool
}

// notified takes a notification that arrived on the feed's connection.
func (f *Feed) notified(name string) {
	switch name {
	case channel:
		f.doorbell.ring(time.Now())
	case f.probe.channel:
		f.probe.arrived = true
	}
}

// listen makes sure that notifications arrive, and listens. Where they do not, the
// feed only polls: behind a pooler in transaction mode LISTEN succeeds and nothing
// ever arrives, and a lock of the session would stay with a server process that
// serves others. Its error means that the connection is no good.
func (f *Feed) listen(ctx context.Context, conn *pgx.Conn) error {
	pollOnly, err := f.tryListen(ctx, conn)
	if err != nil {
		return fmt.Errorf("try LISTEN: %w", err)
	}
	f.doorbell = newDoorbell(time.Now(), pollOnly == nil)
	f.setPollOnly(pollOnly)
	if pollOnly != nil {
		return nil
	}
	if _, err := conn.Exec(ctx, presentSQL); err != nil {
		return fmt.Errorf("be counted: %w", err)
	}
	if f.tuned {
		return nil
	}
	f.tuned = true // a pooler's session that stays ours
	return pg.Tune(ctx, conn)
}

// tryListen listens, and returns nil or says why notifications do not arrive.
func (f *Feed) tryListen(ctx context.Context, conn *pgx.Conn) (pollOnly, err error) {
	f.probe = probe{channel: fmt.Sprintf("%s_probe_%016x", channel, rand.Uint64())}
	if _, err := conn.Exec(ctx, "LISTEN "+f.probe.channel); err != nil {
		return refusal("LISTEN", err)
	}
	// The commit must not wait for a standby, also where a pooler has the session.
	if _, err := f.store.exec(ctx, "SELECT pg_catalog.set_config('synchronous_commit'::text, 'local'::text, true), pg_catalog.pg_notify($1::text, ''::text)", f.probe.channel); err != nil {
		return refusal("NOTIFY", err)
	}
	waiting, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	for !f.probe.arrived {
		if err := conn.PgConn().WaitForNotification(waiting); err != nil {
			if waiting.Err() == nil || conn.IsClosed() || ctx.Err() != nil {
				return nil, err
			}
			break // nothing arrived
		}
	}
	if _, err := conn.Exec(ctx, "UNLISTEN "+f.probe.channel); err != nil {
		return refusal("UNLISTEN", err)
	}
	if !f.probe.arrived {
		return errPollOnly, nil
	}
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return refusal("LISTEN", err)
	}
	return nil, nil
}

// refusal tells a statement that Postgres refuses, on a connection that is good,
// from a connection that is not. The first is why the feed only polls: a queue of
// notifications that is full or damaged must not keep it from following the log.
func refusal(statement string, err error) (pollOnly, broken error) {
	var refused *pgconn.PgError
	if away := (pg.ConnectError{}); errors.As(err, &away) || !errors.As(err, &refused) || pg.IsConnectionEnd(err) {
		return nil, fmt.Errorf("%s: %w", statement, err)
	}
	return fmt.Errorf("%s fails, so the log is only polled: %w", statement, err), nil
}

// queueLimit is the part of the queue of notifications that may be in use while
// the feed waits for one. Past a quarter writers do not notify any more.
const queueLimit = 0.2

// leaveQueue releases the slot when the queue of notifications fills up, because
// a session of somebody else listens and does not read: soon writers notify
// nobody.
func (f *Feed) leaveQueue(ctx context.Context, conn *pgx.Conn) error {
	asking, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	var usage float64
	if err := conn.QueryRow(asking, "SELECT pg_catalog.pg_notification_queue_usage()").Scan(&usage); err != nil {
		return fmt.Errorf("ask for the queue of notifications: %w", err)
	}
	if usage <= queueLimit {
		return nil
	}
	f.store.config.Logger.Warn("the queue of notifications fills up: a session of somebody else listens and does not read; the log is polled", "usage", usage)
	return f.releaseSlot(ctx, conn)
}

// takeSlot asks for the lock of a slot. The feed must poll after it before it
// waits for a notification.
func (f *Feed) takeSlot(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	var slot *int
	if err := conn.QueryRow(ctx, "SELECT notification_gateway.sleep()").Scan(&slot); err != nil {
		return fmt.Errorf("take a slot: %w", err)
	}
	if slot == nil {
		slot = new(int)
	}
	f.doorbell.slotTaken(time.Now(), *slot)
	return nil
}

// announceSlot makes writers look at the slots, unless another gateway is about
// to say that all are awake.
func (f *Feed) announceSlot(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	if _, err := conn.Exec(ctx, "SELECT notification_gateway.mind()"); err != nil {
		return fmt.Errorf("make writers look at the slots: %w", err)
	}
	return nil
}

// presentSQL takes the lock by which gateways count each other. Any role may take
// it, too: then the feed polls less often.
const presentSQL = "SELECT pg_catalog.pg_try_advisory_lock_shared(1734440037, 103)"

// releaseSQL gives a slot up and counts the gateways at this database.
const releaseSQL = `SELECT notification_gateway.wake($1), (SELECT count(*) FROM pg_catalog.pg_locks
  WHERE locktype = 'advisory' AND classid = 1734440037 AND objid = 103 AND granted
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))`

// releaseSlot releases the slot, if one is held, and spares writers the look at
// the slots unless another gateway holds one.
func (f *Feed) releaseSlot(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	var gateways int
	if err := conn.QueryRow(ctx, releaseSQL, f.doorbell.slot).Scan(nil, &gateways); err != nil {
		return fmt.Errorf("release the slot: %w", err)
	}
	f.doorbell.slotReleased(time.Now(), max(0, gateways-1))
	return nil
}

// lookForWriters releases the slot when writers wait for each other to notify.
func (f *Feed) lookForWriters(ctx context.Context, conn *pgx.Conn) error {
	asking, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	var waiting bool
	// A commit that notifies locks the object "database 0".
	err := conn.QueryRow(asking, `SELECT EXISTS (SELECT FROM pg_locks
		WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND objid = 0 AND NOT granted)`).Scan(&waiting)
	if err != nil {
		return fmt.Errorf("look for waiting writers: %w", err)
	}
	if f.doorbell.writersWait(time.Now(), waiting) {
		return f.releaseSlot(ctx, conn)
	}
	return nil
}

// wait carries out what the doorbell says until the next poll is due. It returns
// why the poll is due.
func (f *Feed) wait(ctx context.Context, conn *pgx.Conn) (wake string, err error) {
	for {
		step, pause := f.doorbell.next(time.Now())
		switch step {
		case stepPoll:
			released, err := f.releaseDue(ctx, conn)
			switch {
			case err != nil:
				return "", err
			case released:
				return wakeDue, nil
			}
			wake, err := f.waitToPoll(ctx, conn, f.due.within(pause, time.Now()))
			if err == nil && wake == wakeTimeout && f.due.passed(time.Now()) {
				continue
			}
			return wake, err
		case stepProbe:
			err = f.listen(ctx, conn)
		case stepTakeSlot:
			err = f.takeSlot(ctx, conn)
		case stepAnnounceAndTake:
			if err = f.announceSlot(ctx, conn); err == nil {
				err = rest(ctx, pause)
			}
			if err == nil {
				err = f.takeSlot(ctx, conn)
			}
		case stepReleaseSlot:
			err = f.releaseSlot(ctx, conn)
		case stepLookForWriters:
			err = f.lookForWriters(ctx, conn)
		}
		if err != nil {
			return "", err
		}
	}
}

// waitToPoll returns after pause, or sooner when a notification arrives that we
// asked for. Notifications that come close together are folded: one poll sees
// what all of them are about.
func (f *Feed) waitToPoll(ctx context.Context, conn *pgx.Conn, pause time.Duration) (wake string, err error) {
	if f.doorbell.slotIsNew {
		return wakeSettle, nil
	}
	if !f.doorbell.hasSlot() {
		if pause < time.Millisecond {
			nap(pause)
			return wakePoll, context.Cause(ctx)
		}
		return wakePoll, rest(ctx, pause)
	}
	wake = wakeTimeout
	if f.doorbell.mode == modeSettling {
		wake = wakePoll
	}
	if f.doorbell.rung {
		return wakeNotify, nil
	}
	waiting, cancel := context.WithTimeout(ctx, pause)
	defer cancel()
	for !f.doorbell.rung {
		err := conn.PgConn().WaitForNotification(waiting)
		if errors.Is(waiting.Err(), context.DeadlineExceeded) && !conn.IsClosed() {
			if wake == wakeTimeout {
				return wake, f.leaveQueue(ctx, conn)
			}
			return wake, nil
		}
		if err != nil {
			return "", err
		}
	}
	return wakeNotify, nil
}

// rest returns after d, or with the cause of ctx's end.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// The doorbell. A commit that notifies waits for every other such commit in the
// cluster, through its flush
// (https://www.postgresql.org/docs/current/sql-notify.html), so that many
// writers at once would be held up by us. Therefore a feed that is behind
// anyway stays awake: it gives its lock up, nobody rings, and it polls every
// few milliseconds. Asleep it holds the lock of a slot and waits to be rung,
// which is faster for it and cheaper for everybody when there is little to do.
//
// Nothing is missed between the two. A writer that finds all slots free keeps
// them shared until its rows are visible, so the lock can be had only when
// every such writer is done, and the poll that follows sees what they wrote.
// While all are awake the locks are not even looked at: a sequence says so. Who
// has read that, just before the feed lay down, runs at the poll that follows,
// and until the last such transaction has ended the feed goes on polling, as
// well as being rung by those that came later.
const (
	crowdWindow  = 100 * time.Millisecond // wakes closer than this make the feed look for waiting writers
	crowdTime    = 250 * time.Millisecond // in which polls bring crowdSize transactions from those who had better not ring
	crowdSize    = 160                    // 640 a second: one writer through a flush of 1 ms keeps 0.98 of his rate so, and 0.92 if he rings
	awakePace    = 3 * time.Millisecond   // between two polls while rows come
	awakePaceMax = 50 * time.Millisecond  // and when none have come for long, but sleep cannot be had or is not sound yet, or nobody is connected
	calm         = 150 * time.Millisecond // without rows before the feed tries to sleep
	awakeMax     = time.Second            // with rows of fewer before it tries again: they may no longer wait for each other
	probeWait    = 2 * time.Second        // for a notification to ourselves
	probeEvery   = time.Minute            // while LISTEN is known not to work
)

// bell is where a feed's connection stands with the doorbell. It is owned by
// Run's goroutine.
type bell struct {
	listens  bool          // LISTEN works on this connection
	slot     int           // whose lock we hold; 0 while awake
	probing  string        // channel of a probe that is under way
	heard    bool          // the probe's notification came
	rung     bool          // a notification came since the last poll began
	lastRung time.Time     // when the last one came
	busy     bool          // soon after the one before
	looked   time.Time     // when we last looked for waiting writers
	crowd    crowd         // that writes
	lastRows time.Time     // when a poll last brought rows
	tried    time.Time     // when we last tried to sleep
	unaware  []uint64      // transactions that may have been told that all are awake, and still run; ascending
	lain     bool          // lay down since the last poll, which is to say who is unaware
	probed   time.Time     // when we last tried LISTEN
	pace     time.Duration // until the next poll while awake
}

// crowd is how many transactions a second polls bring.
type crowd struct {
	dense bool      // so many that the feed had better be awake
	since time.Time // when it was last found out
	met   int       // transactions since then
}

// saw counts what a poll brought.
func (c *crowd) saw(entries []Entry, now time.Time) {
	for i, e := range entries {
		if i == 0 || e.XID != entries[i-1].XID {
			c.met++
		}
	}
	passed := now.Sub(c.since)
	if passed < crowdTime && c.met < crowdSize {
		return // too early to say
	}
	c.dense = time.Duration(c.met)*crowdTime >= crowdSize*passed
	c.since, c.met = now, 0
}

// errPollOnly is said of a connection on which LISTEN does not work.
var errPollOnly = errors.New("LISTEN does not work on this connection (a pooler in transaction mode?), so the log is only polled; " +
	"set GATEWAY_LISTEN_DATABASE_URL to a direct connection")

// heardOn notes a notification.
func (b *bell) heardOn(name string) {
	switch name {
	case channel:
		b.rung = true
	case b.probing:
		b.heard = true
	}
}

// listen makes sure that notifications arrive and listens. Behind a pooler in
// transaction mode LISTEN succeeds and nothing ever comes, and a lock of the
// session would be left to somebody else; then the feed only polls.
func (f *Feed) listen(ctx context.Context, conn *pgx.Conn) error {
	now := time.Now()
	f.bell = bell{probed: now, tried: now, lastRows: now, crowd: crowd{since: now}, pace: awakePace}
	var err error
	if f.bell.listens, err = f.probe(ctx, conn); err != nil {
		return fmt.Errorf("try LISTEN: %w", err)
	}
	if !f.bell.listens {
		return nil
	}
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return fmt.Errorf("listen %q: %w", channel, err)
	}
	return tune(ctx, conn)
}

// probe reports whether a notification from the pool arrives on conn.
func (f *Feed) probe(ctx context.Context, conn *pgx.Conn) (bool, error) {
	f.bell.probing, f.bell.heard = fmt.Sprintf("%s_probe_%016x", channel, rand.Uint64()), false
	if _, err := conn.Exec(ctx, "LISTEN "+f.bell.probing); err != nil {
		return false, err
	}
	if _, err := f.store.exec(ctx, "SELECT pg_notify($1, '')", f.bell.probing); err != nil {
		return false, err
	}
	waiting, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	for !f.bell.heard {
		if err := conn.PgConn().WaitForNotification(waiting); err != nil {
			if waiting.Err() == nil || conn.IsClosed() || ctx.Err() != nil {
				return false, err
			}
			break // nothing came
		}
	}
	_, err := conn.Exec(ctx, "UNLISTEN "+f.bell.probing)
	return f.bell.heard, err
}

// lieDown takes the lock of a slot if one can be had. The feed must poll after
// it before it waits.
func (f *Feed) lieDown(ctx context.Context, conn *pgx.Conn) error {
	if !f.bell.listens {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	f.bell.tried = time.Now()
	var slot *int
	if err := conn.QueryRow(ctx, "SELECT notification_gateway.sleep()").Scan(&slot); err != nil {
		return fmt.Errorf("lie down: %w", err)
	}
	if slot == nil {
		return f.standUp(ctx, conn)
	}
	f.bell.slot, f.bell.lain, f.bell.crowd = *slot, true, crowd{since: time.Now()} // what is known of one is old
	return nil
}

// mind makes writers look at the locks, unless another gateway is about to say
// that all are awake.
func (f *Feed) mind(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	if _, err := conn.Exec(ctx, "SELECT notification_gateway.mind()"); err != nil {
		return fmt.Errorf("make writers look at the locks: %w", err)
	}
	return nil
}

// standUp gives the lock up, if there is one, and spares writers the look at the
// locks unless another gateway sleeps.
func (f *Feed) standUp(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	if _, err := conn.Exec(ctx, "SELECT notification_gateway.wake($1)", f.bell.slot); err != nil {
		return fmt.Errorf("stand up: %w", err)
	}
	f.bell.slot, f.bell.unaware, f.bell.lain = 0, nil, false
	f.bell.tried, f.bell.pace = time.Now(), awakePace
	return nil
}

// saw follows which transactions are unaware that the feed sleeps. now is the
// snapshot of a poll.
func (b *bell) saw(now Snapshot) {
	if b.lain {
		b.lain, b.unaware, b.pace = false, slices.Clone(now.Xip), awakePace
		return
	}
	b.unaware = slices.DeleteFunc(b.unaware, func(xid uint64) bool { return now.Sees(xid) })
}

// getUp gives the lock up when writers wait for each other because of us.
func (f *Feed) getUp(ctx context.Context, conn *pgx.Conn) error {
	asking, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	f.bell.looked = time.Now()
	// What a commit that notifies locks is the object "database 0".
	var waiting bool
	err := conn.QueryRow(asking, `SELECT EXISTS (SELECT FROM pg_locks
		WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND objid = 0 AND NOT granted)`).Scan(&waiting)
	if err != nil {
		return fmt.Errorf("look for waiting writers: %w", err)
	}
	if !waiting {
		return nil
	}
	return f.standUp(ctx, conn)
}

// meet gives the lock up when the batch shows that a crowd writes, before it is
// delivered: that may take seconds, through which each writer would ring.
func (f *Feed) meet(ctx context.Context, conn *pgx.Conn, entries []Entry) error {
	f.bell.crowd.saw(entries, time.Now())
	if f.bell.slot == 0 || !f.bell.crowd.dense {
		return nil
	}
	return f.standUp(ctx, conn)
}

// wait returns when the next poll is due, and why. rows is what the last one
// brought, for so many streams.
func (f *Feed) wait(ctx context.Context, conn *pgx.Conn, rows, streams int) (wake string, err error) {
	now := time.Now()
	if rows > 0 {
		f.bell.lastRows, f.bell.pace = now, awakePace
	}
	if streams == 0 {
		f.bell.pace = awakePaceMax
	}
	switch {
	case f.position.place != (Place{}):
		return wakeMore, nil // a bounded batch goes on
	case f.bell.slot == 0:
		return f.waitAwake(ctx, conn, now)
	case f.bell.busy && now.Sub(f.bell.looked) >= crowdWindow: // only now: the rows did not wait for it
		if err := f.getUp(ctx, conn); err != nil {
			return "", err
		}
		if f.bell.slot == 0 {
			return wakePoll, nil
		}
	}
	return f.waitAsleep(ctx, conn)
}

// waitAsleep returns when somebody rang or the poll interval is over. Rings
// that come close together are folded: one poll sees them all.
func (f *Feed) waitAsleep(ctx context.Context, conn *pgx.Conn) (string, error) {
	if !f.bell.rung {
		patience, wake := pollInterval, wakeTimeout
		if len(f.bell.unaware) > 0 {
			patience, wake = f.bell.pace, wakePoll
			f.bell.pace = min(f.bell.pace*3/2, awakePaceMax)
		}
		waiting, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		err := conn.PgConn().WaitForNotification(waiting)
		if errors.Is(waiting.Err(), context.DeadlineExceeded) && !conn.IsClosed() {
			return wake, nil
		}
		if err != nil {
			return "", err
		}
	}
	now := time.Now()
	f.bell.busy = now.Sub(f.bell.lastRung) < crowdWindow
	f.bell.lastRung = now
	return wakeNotify, nil
}

// waitAwake returns after the pace, or at once when sleep could be had.
func (f *Feed) waitAwake(ctx context.Context, conn *pgx.Conn, now time.Time) (string, error) {
	idle, trying := now.Sub(f.bell.lastRows), now.Sub(f.bell.tried)
	switch {
	case f.bell.listens && trying >= calm && idle >= calm:
		if err := f.lieDown(ctx, conn); err != nil || f.bell.slot > 0 {
			return wakeSettle, err
		}
	case f.bell.listens && trying >= awakeMax && f.bell.crowd.dense:
		// Another may have said that it sleeps, and died, or got up when we did and each
		// left it to the other to say so.
		if err := f.standUp(ctx, conn); err != nil {
			return "", err
		}
	case f.bell.listens && trying >= awakeMax:
		return f.waitMinded(ctx, conn)
	case !f.bell.listens && now.Sub(f.bell.probed) >= probeEvery:
		if err := f.listen(ctx, conn); err != nil {
			return "", err
		}
	}
	pace := f.bell.pace
	if idle >= calm {
		f.bell.pace = min(f.bell.pace*3/2, awakePaceMax)
	}
	return wakePoll, rest(ctx, pace)
}

// waitMinded has writers look at the locks while it waits, because rows come:
// those that write at once keep the feed from lying down then. It ends before the
// poll, which may bring so much that writers would pay for it for seconds.
func (f *Feed) waitMinded(ctx context.Context, conn *pgx.Conn) (string, error) {
	if err := f.mind(ctx, conn); err != nil {
		return "", err
	}
	if err := rest(ctx, awakePace); err != nil {
		return "", err
	}
	if err := f.lieDown(ctx, conn); err != nil || f.bell.slot > 0 {
		return wakeSettle, err
	}
	return wakePoll, nil
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

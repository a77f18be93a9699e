package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

const (
	channel     = "notification_gateway"
	patienceMin = 2 * time.Second // a connection that does not answer in this time is dead
	patienceMax = time.Minute     // or Postgres is slow: then each try waits twice as long
	backoffMin  = 100 * time.Millisecond
	backoffMax  = 5 * time.Second

	wakeReconnect = "reconnect" // the first poll of a connection
	wakeNotify    = "notify"    // somebody rang
	wakeTimeout   = "timeout"   // nobody rang for the poll interval
	wakeMore      = "more"      // the last batch was bounded
	wakePoll      = "poll"      // awake, and the pace is over
	wakeSettle    = "settle"    // just fallen asleep
	wakeRetry     = "retry"     // the last batch was refused
	wakeDue       = "due"       // notifications became due, and were moved into the log
)

// Feed follows the log: one goroutine and one connection that listens and
// polls. It remembers the position up to which batches were handed over, and
// after any failure goes on from there.
type Feed struct {
	store    *Store
	config   *pgx.ConnConfig
	doorbell doorbell                     // owned by Run's goroutine
	probe    probe                        // owned by Run's goroutine
	polling  *pgconn.StatementDescription // of this connection, for pollSQL; owned by Run's goroutine
	tuned    bool                         // the connection is set up and its path pinned; owned by Run's goroutine
	position Cursor                       // after the last batch that was handed over; owned by Run's goroutine
	table    int64                        // the log's OID on this connection, 0 before its first poll; owned by Run's goroutine
	view     string                       // the view feed's OID when its types were learned, empty before the first poll; owned by Run's goroutine
	highest  uint64                       // highest committed xid seen in the log; owned by Run's goroutine
	limit    int                          // rows of one poll at the most; owned by Run's goroutine
	patience time.Duration                // for one answer; owned by Run's goroutine
	past     positions                    // earlier ones; owned by Run's goroutine
	polled   time.Time                    // when the last poll began that was handed over; owned by Run's goroutine
	again    again                        // what comes again while the position is of another life; owned by Run's goroutine
	due      dueTimer                     // owned by Run's goroutine
	reset    string                       // why every client must be told to reload, until they are told; owned by Run's goroutine

	mu       sync.Mutex
	why      error // why the feed is not connected, nil while it is; guarded by mu
	pollOnly error // why LISTEN does not work, nil while it does; guarded by mu
}

// NewFeed makes the feed of a Store. It does not connect.
func NewFeed(s *Store) (*Feed, error) {
	url := s.config.ListenURL
	if url == "" {
		url = s.config.URL
	}
	c, _, err := pg.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("for LISTEN: %w", err)
	}
	pg.Prepare(c)
	pg.OnlyPrimary(c)
	f := &Feed{store: s, config: c, why: ErrNotReady, limit: pollLimit, patience: patienceMin}
	c.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { f.notified(n.Channel) }
	return f, nil
}

// transactions counts those of entries in order of the log.
func transactions(entries []Entry) (n int) {
	for i, e := range entries {
		if i == 0 || e.XID != entries[i-1].XID {
			n++
		}
	}
	return n
}

// Ready returns nil while the feed listens and polls, else why it does not.
func (f *Feed) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.why
}

// PollOnly returns nil, or says why the feed is not rung but only polls. That
// costs latency and work, and loses nothing.
func (f *Feed) PollOnly() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pollOnly
}

// Taker takes what the feed brings. *gateway.Gateway is one.
type Taker interface {
	// Deliver takes a batch. It is called from one goroutine, one batch at a
	// time, also with empty ones so that the position moves. When it fails, the
	// same rows come again after a pause, or in smaller batches at once when the
	// error is ErrBatchTooLarge.
	Deliver(ctx context.Context, batch Batch) error
	// Streams returns how many streams may have rows loaded. While there is
	// none, the feed reads the log alone.
	Streams() int
}

// Run follows the log until ctx ends and returns its cause. Every row is handed
// over at least once.
func (f *Feed) Run(ctx context.Context, taker Taker) error {
	var pause backoff
	for {
		began := time.Now()
		polled, err := f.session(ctx, taker)
		if ctx.Err() != nil {
			f.unready(context.Cause(ctx))
			return context.Cause(ctx)
		}
		if polled {
			f.store.config.Metrics.reconnects.Inc()
		}
		if polled && time.Since(began) > backoffMax { // else something ends us again and again
			pause = backoff{}
		}
		f.complain("feed disconnected", f.explain(err))
		if errors.Is(err, context.DeadlineExceeded) {
			f.patience = min(2*f.patience, patienceMax)
		}
		pause.wait(ctx)
	}
}

// backoff is a pause that grows each time.
type backoff struct{ next time.Duration }

// wait returns when the pause is over or ctx ends.
func (b *backoff) wait(ctx context.Context) {
	b.next = max(b.next, backoffMin)
	rest(ctx, b.next/2+rand.N(b.next)) // whoever waits looks at ctx
	b.next = min(2*b.next, backoffMax)
}

// complain says why the feed does not work, in the log once for each reason and
// not for each try.
func (f *Feed) complain(what string, err error) {
	if known := f.Ready(); known == nil || known.Error() != err.Error() {
		f.store.config.Logger.Warn(what, "err", err)
	}
	f.unready(err)
}

func (f *Feed) unready(err error) {
	f.store.config.Metrics.connected.Set(0)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.why = err
}

// ready says that the feed works.
func (f *Feed) ready(install [16]byte) {
	if f.Ready() == nil {
		return
	}
	f.store.config.Metrics.connected.Set(1)
	f.store.config.Logger.Info("feed connected", "install_id", fmt.Sprintf("%x", install[:4]))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.why = nil
}

// session connects, listens and polls until something fails. It reports
// whether it came as far as a poll that was handed over.
func (f *Feed) session(ctx context.Context, taker Taker) (polled bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, f.config)
	if err != nil {
		return false, fmt.Errorf("connect: %w", pg.ConnectCause(err))
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if f.doorbell.mode != modePollOnly && ctx.Err() != nil { // else writers look at the slots until another gateway connects
			f.releaseSlot(closing, conn) // the server may be gone
		}
		conn.Close(closing) // it may be dead already
	}()
	if err := f.greet(ctx, conn); err != nil {
		return false, err
	}
	var refused backoff
	for wake := wakeReconnect; ; {
		f.store.config.Metrics.wakes.WithLabelValues(wake).Inc()
		began := time.Now()
		f.doorbell.pollBegins(began)
		batch, err := f.poll(ctx, conn, taker.Streams() > 0 && wake != wakeMore)
		if err != nil {
			return polled, fmt.Errorf("poll: %w", err)
		}
		if f.doorbell.polled(time.Now(), batch.snapshot, transactions(batch.Entries)) {
			if err := f.releaseSlot(ctx, conn); err != nil {
				return polled, err
			}
		}
		f.store.recent.add(batch)
		if err := taker.Deliver(ctx, batch); err != nil {
			if ctx.Err() != nil {
				return polled, context.Cause(ctx)
			}
			if n := len(batch.Entries); n > 1 && errors.Is(err, ErrBatchTooLarge) {
				f.limit, wake = n/2, wakeMore
				continue
			}
			// This connection is good, and another may not be had.
			f.complain("batch refused, it comes again", f.explain(fmt.Errorf("deliver: %w", err)))
			refused.wait(ctx)
			wake = wakeRetry
			continue
		}
		f.store.recent.delivered()
		f.store.prefetch.batchDelivered(len(batch.Entries))
		f.position, f.limit = batch.Cursor, min(2*f.limit, pollLimit)
		f.past.add(f.position)
		f.polled, f.reset = began, ""
		f.observe(wake, len(batch.Entries))
		polled, refused = true, backoff{}
		f.ready(batch.Cursor.install)
		f.doorbell.delivered(time.Now(), len(batch.Entries), taker.Streams())
		if batch.Partial {
			wake = wakeMore
		} else if wake, err = f.wait(ctx, conn); err != nil {
			return polled, fmt.Errorf("wait for notifications: %w", err)
		}
	}
}

// observe measures what a wake brought.
func (f *Feed) observe(wake string, rows int) {
	if rows == 0 {
		return
	}
	f.store.config.Metrics.batchRows.Observe(float64(rows))
	if wake == wakeTimeout {
		f.store.config.Metrics.unrung.Add(float64(rows))
	}
}

// greet learns which server this is, and listens and takes a slot before the
// first poll, so that nothing that is committed after it is missed.
func (f *Feed) greet(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, f.patience*5/2) // some ten questions
	defer cancel()
	if err := f.pin(ctx, conn); err != nil {
		return err
	}
	known, highest, err := greet(ctx, conn, f.tuned)
	if err != nil {
		return err
	}
	if err := f.judge(ctx, conn, known); err != nil {
		return err
	}
	// A promoted standby may lack what its primary had committed, and hands
	// those transaction IDs out again.
	f.position.snapshot = f.position.snapshot.Clip(highest)
	f.highest, f.table, f.view, f.polling, f.polled, f.due = highest, 0, "", nil, time.Time{}, dueTimer{}
	f.store.prefetch.reset()
	ask := func(ctx context.Context, statement string, args ...any) pgx.Row {
		return pg.QueryRow(ctx, conn, f.tuned, statement, args...)
	}
	if err := f.store.lookForIdentity(ctx, ask); err != nil { // before anybody is let in
		return err
	}
	f.store.server.follow(known)
	if err := f.listen(ctx, conn); err != nil {
		return err
	}
	if f.doorbell.mode == modePollOnly {
		return nil
	}
	if err := f.takeSlot(ctx, conn); err != nil || f.doorbell.hasSlot() {
		return err
	}
	return f.releaseSlot(ctx, conn)
}

// pin sets the session up before its first statement that names anything, unless
// it belongs to a pooler, where each statement pins the path for itself.
func (f *Feed) pin(ctx context.Context, conn *pgx.Conn) (err error) {
	if f.tuned, err = pg.IsDirect(ctx, conn); err != nil || !f.tuned {
		return err
	}
	return pg.Tune(ctx, conn)
}

// judge decides what the position proves on the server that the connection
// reaches.
func (f *Feed) judge(ctx context.Context, conn *pgx.Conn, known *server) error {
	f.again = again{}
	if f.position.IsZero() {
		return nil
	}
	if f.position.install != known.install { // its transaction IDs have nothing to do with ours, and the gateway sees that by itself
		f.position, f.past = Cursor{}, nil
		return nil
	}
	o, noted := known.origin(f.position)
	switch o {
	case originSame:
		f.position = known.adopt(f.position)
	case originUnrecorded:
		since := f.position.at.Add(-failoverWindow)
		f.again = again{since: since, xid: f.past.endedBy(since)}
	case originUnknown:
		f.position, f.past, f.reset = Cursor{}, nil, ResetForeign
	case originCrashed, originFailedOver:
		claim, by := f.position.claim()
		kept, err := f.kept(ctx, conn, claim, by)
		switch {
		case err != nil:
			return err
		case kept && o == originCrashed && !by.IsZero():
			f.position.incarnation = known.incarnation
		case !kept: // rows that clients have were undone
			f.reset = ResetForeign
		}
		f.again = again{xid: noted}
	}
	return nil
}

// kept reports whether the server has a row of a transaction that was inserted by
// a moment.
func (f *Feed) kept(ctx context.Context, conn *pgx.Conn, xid uint64, by time.Time) (kept bool, err error) {
	err = pg.QueryRow(ctx, conn, f.tuned, "SELECT notification_gateway.kept($1::text::xid8, $2::text::timestamptz)", strconv.FormatUint(xid, 10), timeText(by, "infinity")).Scan(&kept)
	if err != nil {
		return false, fmt.Errorf("look for the last row that was seen: %w", err)
	}
	return kept, nil
}

// setPollOnly notes why LISTEN does not work, nil where it does, and says it in
// the log once for each reason.
func (f *Feed) setPollOnly(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.store.config.Metrics.pollOnly.Set(0)
	if why != nil {
		f.store.config.Metrics.pollOnly.Set(1)
		if f.pollOnly == nil || f.pollOnly.Error() != why.Error() {
			f.store.config.Logger.Warn("feed only polls", "err", why)
		}
	}
	f.pollOnly = why
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// Pauses of a replay that Postgres did not answer. Half of each is random, so
// that replays which waited together do not ask together.
const (
	retryPauseMin = 200 * time.Millisecond
	retryPauseMax = 10 * time.Second
)

const (
	pageRows    = 64  // rows of the first page of a replay
	pageRowsMax = 500 // rows of a page of small rows
)

var errStalled = errors.New("the client takes nothing")

// catchUp is one replay: it sends a stream what its client has missed, and what
// comes meanwhile, and makes the stream live. While Postgres does not answer it
// waits. It is owned by the goroutine that runs it: that of the request, which
// waits for it, or one of its own for a stream that fell behind.
type catchUp struct {
	hub    *hub
	stream *stream

	from  store.Cursor // what the client has
	to    store.Cursor // up to where it gets the rest; rows after it are live, or of the next round
	after store.Place  // where the page before ended; zero at the beginning of a round
	sent  store.Cursor // the position in the last id that was sent

	told overtaken // what a client that wants changes was sent

	rows     int           // log rows to ask for with the next page
	maxStall time.Duration // how long the client may take nothing; zero: as long as the transport allows
	pause    time.Duration // the next pause when Postgres does not answer
}

// replay returns what must be run for a stream that registered at the position
// at, in the request's goroutine; nil where it is live already. from is the
// position of its client, zero where it asks for what is unread.
func (h *hub) replay(s *stream, from, at store.Cursor, unread bool) func(context.Context) {
	c := &catchUp{hub: h, stream: s, from: from, to: at, sent: from, rows: h.firstPageRows()}
	switch {
	case unread:
		c.from, c.sent = at, store.Cursor{}
		return func(ctx context.Context) { c.do(ctx, c.runUnread) }
	case !from.IsZero():
		return func(ctx context.Context) { c.do(ctx, c.run) }
	}
	return nil
}

// do runs a replay, and ends the stream if it could not go on.
func (c *catchUp) do(ctx context.Context, run func(context.Context) error) {
	c.hub.replays.begin()
	defer c.hub.replays.end()
	err := run(ctx)
	switch {
	case errors.Is(err, errStalled):
		c.hub.end(c.stream, endSlow)
	case err == nil, ctx.Err() != nil, errors.Is(err, errStreamEnded):
	default:
		c.hub.config.Logger.Error("replay failed", "err", err)
		c.hub.end(c.stream, endInternal)
	}
}

// firstPageRows is how many rows a replay asks for while it does not know how
// large its user's rows are.
func (h *hub) firstPageRows() int { return min(pageRows, h.config.ReplayLimit) }

// run sends what was missed, round by round, until the stream is live.
func (c *catchUp) run(ctx context.Context) error {
	for {
		if err := c.sendMissed(ctx); err != nil {
			return err
		}
		live, err := c.goLive(ctx)
		if live || err != nil {
			return err
		}
	}
}

// sendMissed sends the rows between from and to, or a reset where they cannot
// be known.
func (c *catchUp) sendMissed(ctx context.Context) error {
	c.pause = retryPauseMin
	for more := true; more; {
		if reason := c.hub.gap(c.from, c.to); reason != "" {
			return c.resetTo(ctx, c.to, reason)
		}
		err := c.withPage(ctx, func(bytes int) (sent int, err error) {
			page, err := c.hub.source.Replay(ctx, c.stream.reader(), c.from, c.to, c.after, c.rows, bytes)
			if err != nil {
				return 0, &sourceError{err}
			}
			n, sent := c.sendRows(page.Notifications, page.After)
			switch {
			case n < len(page.Notifications): // the rest did not fit
				more = true
				if n > 0 {
					c.after = page.Notifications[n-1].Place()
				}
			default:
				c.after, more = page.Next, page.More
			}
			c.rows = c.rowsFor(page.Notifications, bytes)
			return sent, nil
		})
		var failed *sourceError
		var unproven *store.ResetError
		switch {
		case errors.As(err, &unproven): // only Postgres could tell
			c.hub.mu.Lock()
			now := c.hub.position.Cursor
			c.hub.mu.Unlock()
			return c.resetTo(ctx, now, unproven.Reason)
		case errors.As(err, &failed):
			if err := c.waitForPostgres(ctx, "replay waits for Postgres", failed.err); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			c.pause = retryPauseMin
		}
	}
	return nil
}

// sourceError is an answer of Postgres that a replay waits over.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// withPage calls read with the memory of a page, when the client has taken
// everything before it. read hands a page's events over, and returns how many
// bytes they have.
func (c *catchUp) withPage(ctx context.Context, read func(bytes int) (sent int, err error)) error {
	if err := c.awaitClient(ctx); err != nil {
		return err
	}
	if c.hub.closed(c.stream) { // nobody reads the rest
		return errStreamEnded
	}
	bytes, err := c.hub.replays.take(ctx)
	if err != nil {
		return err
	}
	sent, err := func() (int, error) {
		defer c.hub.replays.give(bytes)
		return read(bytes)
	}()
	if err != nil || sent <= c.hub.config.StreamBuffer {
		return err
	}
	// One row that is larger than a buffer. It counts until the client has taken it.
	c.hub.replays.count(sent)
	defer c.hub.replays.count(-sent)
	return c.awaitClient(ctx)
}

// rowsFor says how many rows of this user a page of so many bytes holds, by those
// of the page before.
func (c *catchUp) rowsFor(rows []store.Notification, bytes int) int {
	size := 0
	for _, n := range rows {
		size += len(n.Data)
	}
	if size == 0 {
		return c.rows
	}
	return min(1+bytes*len(rows)/size, pageRowsMax, c.hub.config.ReplayLimit)
}

// goLive makes the stream live, unless a batch for it came meanwhile: then it
// begins the next round, up to the position after that batch. Inside a
// transaction it waits for the end, because the rest may be more than a buffer
// holds, and a replay goes at the client's pace.
func (c *catchUp) goLive(ctx context.Context) (live bool, _ error) {
	h, s := c.hub, c.stream
	for {
		h.mu.Lock()
		switch {
		case s.state == streamClosed:
			h.mu.Unlock()
			return false, errStreamEnded
		case !h.partial:
			defer h.mu.Unlock()
			if s.missedBatch {
				s.missedBatch = false
				c.from, c.to, c.after = c.reached(c.to), h.position.Cursor, store.Place{}
				return false, nil
			}
			h.becomeLiveLocked(s, c.reached(c.to), c.sent)
			return true, nil
		}
		s.missedBatch = true
		next := h.nextBatchLocked()
		h.mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// becomeLiveLocked makes a stream live whose client has everything up to the
// position has, and was last sent the position sent.
func (h *hub) becomeLiveLocked(s *stream, has, sent store.Cursor) {
	h.setStateLocked(s, streamLive)
	h.setAheadLocked(s, has)
	s.lastSent = h.position // mostly, and all streams share it
	if sent.Moved(h.position.Cursor, 0) {
		s.lastSent = &position{Cursor: sent}
	}
}

// reached returns the position of a client that has everything up to at, which
// the replay goes through, besides what it had before.
func (c *catchUp) reached(at store.Cursor) store.Cursor {
	if c.from.Ahead(at) {
		return c.from.Union(at)
	}
	return at
}

// sendRows hands rows over, as many as fit into the stream's buffer. It returns
// how many that were, and the bytes of their events. after has for each row the
// position that a client which read it may claim; zero where that is the position
// of the row before.
func (c *catchUp) sendRows(rows []store.Notification, after []store.Cursor) (sent, bytes int) {
	read := c.sent
	var seen map[string]bool // items, where rows of several keys come
	for i, n := range rows {
		if !after[i].IsZero() {
			read = c.reached(after[i])
		}
		if n.Err == nil && (n.Data == nil || c.stream.types != nil && !c.stream.wants(n.Change, typeOf(n))) {
			continue
		}
		if n.Change == "" && n.ItemID != "" && (seen != nil || n.UserKey != c.stream.recipient.UserKey) { // it may be captured under several keys
			if seen == nil {
				seen = itemsOf(rows[:i])
			}
			if seen[n.ItemID] {
				continue
			}
			seen[n.ItemID] = true
		}
		if c.stream.changes && c.told.has(n) {
			continue
		}
		e := notificationEvent(read.String(), n)
		e.captured = time.Time{} // the client was away: that is no delay of ours
		if !c.stream.out.Send(e) {
			return i, bytes
		}
		c.sent = read
		c.told.add(n, c.stream.changes)
		bytes += len(e.chunk)
		c.hub.metrics.replayed.Inc()
		if n.Err != nil {
			c.hub.config.Logger.Warn("notification cannot be read", "item_id", n.ItemID, "err", n.Err)
			c.hub.metrics.resets.WithLabelValues(resetUnreadable).Inc()
		}
	}
	return len(rows), bytes
}

// itemsOf returns the items of rows that a client gets.
func itemsOf(rows []store.Notification) map[string]bool {
	items := map[string]bool{}
	for _, n := range rows {
		if n.Data != nil && n.Change == "" {
			items[n.ItemID] = true
		}
	}
	return items
}

// resetTo ends a round with a reset. What the client had before it counts no more:
// it may have been undone.
func (c *catchUp) resetTo(ctx context.Context, at store.Cursor, reason string) error {
	c.from, c.to = at, at
	return c.sendReset(ctx, at, reason)
}

// sendReset tells the client that it must reload, and that it has everything up
// to at then.
func (c *catchUp) sendReset(ctx context.Context, at store.Cursor, reason string) error {
	c.hub.metrics.resets.WithLabelValues(reason).Inc()
	if err := c.send(ctx, resetEvent(at.String(), reason)); err != nil {
		return err
	}
	c.sent = at
	return nil
}

// send hands an event over when the client has room for it.
func (c *catchUp) send(ctx context.Context, e *event) error {
	for !c.stream.out.Send(e) {
		if err := c.awaitClient(ctx); err != nil {
			return err
		}
	}
	return nil
}

// awaitClient waits until the client has taken everything: a replay waits for a
// slow client instead of ending its stream. Its error is errStalled for a client
// that took nothing for maxStall.
func (c *catchUp) awaitClient(ctx context.Context) error {
	out := c.stream.out
	for {
		waiting, cancel := ctx, context.CancelFunc(func() {})
		if c.maxStall > 0 {
			waiting, cancel = context.WithTimeout(ctx, c.maxStall)
		}
		err := out.Drained(waiting)
		cancel()
		timedOut := waiting.Err() != nil && ctx.Err() == nil
		switch {
		case err == nil:
			return nil
		case timedOut && out.Stalled() < c.maxStall:
		case timedOut:
			return errStalled
		default:
			return fmt.Errorf("wait for the client: %w", err)
		}
	}
}

// waitForPostgres logs why a replay was not answered, and returns when it may
// ask again: after the next batch, which shows that Postgres answers, and a
// pause. A stream that waits costs nothing, however many there are and however
// long it takes. The replay keeps its end, unless rows between its beginning and
// the hub's position can not be known any more: then it ends there, with a reset.
func (c *catchUp) waitForPostgres(ctx context.Context, message string, cause error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	h := c.hub
	h.log.error(message, "err", cause)
	h.mu.Lock()
	next := h.nextBatchLocked()
	h.waiting++
	h.mu.Unlock()
	select {
	case <-next:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	pause := time.NewTimer(c.pause/2 + rand.N(c.pause/2))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c.pause = min(2*c.pause, retryPauseMax)
	h.mu.Lock()
	now := h.position.Cursor
	h.mu.Unlock()
	if h.gap(c.from, now) != "" {
		c.to = now
	}
	return nil
}

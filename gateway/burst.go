package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

const (
	maxCatching   = 64                    // bursts that are caught up with at a time
	burstPage     = 100                   // rows of one in memory
	burstStall    = 25 * time.Millisecond // a client that has taken nothing for so long while something waited does not read
	burstPatience = 10 * time.Second      // for a client that has been given the time to read: its window opens in steps of some 60 KB
)

var errStalled = errors.New("the client takes nothing")

// overflow is called for a row that a stream had no room for, or that is late. A
// client that does not read is ended. One that does had no time to: the batch alone is
// larger than its buffer. It gets the rest from the log, as fast as it reads,
// as if it had just come back. It needs sending.
func (h *hub) overflow(ctx context.Context, d delivery) {
	if d.row == nil || h.before == nil || !d.late && d.to.out.Stalled() >= burstStall {
		h.slow(d.to)
		return
	}
	select {
	case h.catching <- struct{}{}:
	default: // too many at once
		h.slow(d.to)
		return
	}
	to, after, ok := h.fallBehind(d)
	if !ok {
		<-h.catching
		return
	}
	from := *h.before
	go func() { // Run waits for it
		defer func() { <-h.catching }()
		p := pace{page: min(burstPage, h.config.ReplayLimit), patience: burstPatience}
		h.replayed(ctx, d.to, h.catchUp(ctx, d.to, from, to, after, p))
	}()
}

// fallBehind takes a live stream out of the live ones, and returns what it must
// be brought up to and after which place.
func (h *hub) fallBehind(d delivery) (to store.Cursor, after store.Place, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.to.gone || !d.to.live {
		return to, after, false
	}
	d.to.live, d.to.dirty = false, false
	h.absent++
	h.metrics.bursts.Inc()
	return *h.position, d.row.Before(), true
}

// replayed ends a stream whose replay could not go on.
func (h *hub) replayed(ctx context.Context, s *stream, err error) {
	switch {
	case errors.Is(err, errStalled):
		h.slow(s)
	case err == nil, ctx.Err() != nil, errors.Is(err, errStreamEnded):
	default:
		h.config.Logger.Error("replay failed", "err", err)
		h.fail(s)
	}
}

// awaitBursts waits until no burst is caught up with, and lets no other begin.
func (h *hub) awaitBursts() {
	for range maxCatching {
		h.catching <- struct{}{}
	}
}

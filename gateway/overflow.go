package gateway

import (
	"context"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

const (
	maxFallenBehind = 64                    // streams that fell behind and catch up at a time
	stallLimit      = 25 * time.Millisecond // a client that took nothing for so long while something waited does not read
	catchUpStall    = 10 * time.Second      // the same for a client that catches up: its TCP window opens in steps of some 60 KB
)

// overflowLocked is called for a row that did not fit into the buffer of a live
// stream, or that was not loaded in time. A client that does not read is slow,
// and its stream is ended. A client that reads had no time to read more, because
// the batch alone is larger than its buffer: its stream falls behind, and a
// replay sends the rest from the log as fast as the client reads. The caller
// holds sending.
func (h *hub) overflowLocked(ctx context.Context, d delivery) {
	if d.entry == nil || h.previous == nil || !d.notLoaded && d.to.out.Stalled() >= stallLimit {
		h.end(d.to, endSlow)
		return
	}
	select {
	case h.catchUpSlots <- struct{}{}:
	default: // too many at once
		h.end(d.to, endSlow)
		return
	}
	from, to, ok := h.fallBehind(d.to)
	if !ok {
		<-h.catchUpSlots
		return
	}
	c := &catchUp{
		hub: h, stream: d.to, from: from, to: to, after: d.entry.Before(), sent: from,
		rows: h.firstPageRows(), maxStall: catchUpStall,
	}
	go func() { // Gateway.Run waits for it, see awaitFallenBehind
		defer func() { <-h.catchUpSlots }()
		c.do(ctx, c.run)
	}()
}

// fallBehind makes a live stream catch up, from what its client had before the
// batch up to the position after it. It reports false for a stream that is not
// live. The caller holds sending.
func (h *hub) fallBehind(s *stream) (from, to store.Cursor, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.state != streamLive {
		return from, to, false
	}
	h.setStateLocked(s, streamCatchingUp)
	h.metrics.bursts.Inc()
	return h.positionOfLocked(s, h.previous).Cursor, h.position.Cursor, true
}

// awaitFallenBehind waits until no stream that fell behind catches up, and lets
// no other begin.
func (h *hub) awaitFallenBehind() {
	for range maxFallenBehind {
		h.catchUpSlots <- struct{}{}
	}
}

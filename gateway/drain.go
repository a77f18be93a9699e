package gateway

import (
	"context"
	"slices"
	"time"
)

// A drain takes most of its time to end the streams; the rest is left for the
// last events to be written.
const (
	drainShare   = 0.8
	drainSlowest = 250 * time.Millisecond // between two streams, however few there are
)

// Drain refuses new streams and ends the open ones one by one, so that their
// clients do not all reconnect at once. Those that are still open go on
// receiving. It returns when none is left or ctx ends.
func (g *Gateway) Drain(ctx context.Context) {
	streams := g.hub.startDrain()
	pause := drainSlowest
	if len(streams) > 0 {
		pause = min(pause, time.Duration(float64(g.config.Drain)*drainShare)/time.Duration(len(streams)))
	}
	began := time.Now()
	for i, s := range streams {
		// By the clock, not by ticks: a busy process misses some, and would leave
		// many streams for the end.
		timer := time.NewTimer(time.Until(began.Add(time.Duration(i) * pause)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop() // out of time: the rest is ended at once
		}
		g.hub.end(s, endDraining)
	}
	select {
	case <-g.hub.empty:
	case <-ctx.Done():
	}
	if g.poller != nil {
		g.poller.flush(ctx)
	}
}

// startDrain refuses new streams from now on, and returns the open ones; none
// when a drain has begun before.
func (h *hub) startDrain() []*stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return nil
	}
	h.draining = true
	if h.open == 0 {
		close(h.empty)
	}
	return slices.Collect(h.streams.all())
}

package gateway

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// Pauses of a replay that Postgres did not answer. Half of each is random, so
// that the streams which waited together do not ask together.
const (
	replayPauseMin = 200 * time.Millisecond
	replayPauseMax = 10 * time.Second
)

// recovered waits until Postgres has brought a batch, which says that it
// answers again, and then for a part of pause. A stream that waits costs
// nothing, however many there are and however long it takes. It returns the
// position to replay to.
func (h *hub) recovered(ctx context.Context, pause time.Duration) (store.Cursor, error) {
	h.mu.Lock()
	next := h.nextBatch()
	h.waiting++
	h.mu.Unlock()
	select {
	case <-next:
	case <-ctx.Done():
		return store.Cursor{}, context.Cause(ctx)
	}
	spread := time.NewTimer(pause/2 + rand.N(pause/2))
	defer spread.Stop()
	select {
	case <-spread.C:
	case <-ctx.Done():
		return store.Cursor{}, context.Cause(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return *h.position, nil
}

// resetUnreadable is the reason of a reset for a row that is there and cannot be
// read; the others are those of a cursor.
const resetUnreadable = "unreadable"

// resetTruncated is the reason of a reset before the newest of a user's unread
// notifications, of which there are more than a replay brings.
const resetTruncated = "truncated"

// gap says why what came between two positions cannot be known, empty when it
// can: the objects were made anew or the database was restored from a dump, or
// Postgres was away for longer than the log is kept, and another replica may
// have pruned it. It is the reason of a reset.
func (h *hub) gap(from, to store.Cursor) string {
	switch {
	case !from.SameInstallation(to):
		return store.ResetForeign
	case h.config.Retention > 0 && to.Older(from, h.config.Retention):
		return store.ResetExpired
	}
	return ""
}

// resetAll tells every client of a gap. A replay under way finds out when it
// looks at the position. It needs sending and mu.
func (h *hub) resetAll(at *store.Cursor, reason string) {
	h.config.Logger.Warn("every client is told to reload", "reason", reason, "streams", h.count)
	e := resetEvent(at.String(), reason)
	for _, streams := range h.users {
		for _, s := range streams {
			if !s.live {
				s.dirty = true
				continue
			}
			s.told = at
			h.metrics.resets.WithLabelValues(reason).Inc()
			h.deliveries = append(h.deliveries, delivery{to: s, event: e})
		}
	}
}

// complaints are errors of which thousands may come at once when Postgres is
// away: the log gets one a second, and how many were left out.
type complaints struct {
	logger *slog.Logger

	mu   sync.Mutex
	last time.Time // guarded by mu
	left int       // guarded by mu
}

func (c *complaints) error(message string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.last) < time.Second {
		c.left++
		return
	}
	if c.left > 0 {
		args = append(args, "left_out", c.left)
	}
	c.last, c.left = now, 0
	c.logger.Error(message, args...)
}

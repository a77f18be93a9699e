package gateway

import (
	"cmp"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// The reasons of a reset besides those of store.ResetError.
const (
	resetUnreadable = "unreadable" // a row exists and cannot be read
	resetTruncated  = "truncated"  // of a user's unread notifications only the newest follow
)

// gap says why the rows between two positions cannot be known; it is empty when
// they can. Either the database's objects were made anew, or the database was
// restored from a dump; or Postgres was away for longer than the log is kept,
// and another replica may have pruned it. The answer is the reason of a reset.
func (h *hub) gap(from, to store.Cursor) string {
	switch {
	case !from.SameInstallation(to):
		return store.ResetForeign
	case h.config.Retention > 0 && to.Older(from, h.config.Retention):
		return store.ResetExpired
	}
	return ""
}

// gapReset is what every client is told when rows cannot be known.
type gapReset struct {
	reason string
	event  *event
}

// resetOnGap returns what clients must be told before the hub moves to a
// position, or nil. reason is what the feed knows of it, mostly nothing.
func (h *hub) resetOnGap(to *position, reason string) *gapReset {
	h.mu.Lock()
	from := h.position // only the caller, who delivers, changes it
	h.mu.Unlock()
	if from == nil {
		return nil
	}
	reason = cmp.Or(reason, h.gap(from.Cursor, to.Cursor))
	if reason == "" {
		return nil
	}
	return &gapReset{reason, resetEvent(to.id(), reason)}
}

// resetAllLocked tells every client to reload, unless reset is nil. A replay finds
// out by itself, when it goes on to the next position. The caller holds sending,
// too.
func (h *hub) resetAllLocked(at *position, reset *gapReset) {
	if reset == nil {
		return
	}
	h.config.Logger.Warn("every client is told to reload", "reason", reset.reason, "streams", h.open)
	for s := range h.streams.all() {
		if s.state == streamCatchingUp {
			s.missedBatch = true
			continue
		}
		s.lastSent, s.ahead = at, nil // what its client had may have been undone
		h.metrics.resets.WithLabelValues(reset.reason).Inc()
		h.deliveries = append(h.deliveries, delivery{to: s, event: reset.event})
	}
}

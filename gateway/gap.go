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

// resetOnGapLocked tells every client to reload when the rows between the hub's
// position and the next one cannot be known. A replay finds out by itself, when
// it goes on to the next position. reason is what the feed knows of it, mostly
// nothing. The caller holds sending, too.
func (h *hub) resetOnGapLocked(at *position, reason string) {
	if h.position == nil {
		return
	}
	reason = cmp.Or(reason, h.gap(h.position.Cursor, at.Cursor))
	if reason == "" {
		return
	}
	h.config.Logger.Warn("every client is told to reload", "reason", reason, "streams", h.open)
	e := resetEvent(at.id(), reason)
	for s := range h.streams.all() {
		if s.state == streamCatchingUp {
			s.missedBatch = true
			continue
		}
		s.lastSent = at
		h.metrics.resets.WithLabelValues(reason).Inc()
		h.deliveries = append(h.deliveries, delivery{to: s, event: e})
	}
}

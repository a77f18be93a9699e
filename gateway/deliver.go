package gateway

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// delivery is an event on its way to a stream.
type delivery struct {
	to    *stream
	event *event
	row   *store.Entry // which row it is; nil for other events
	spare bool         // a client for which too much waits can do without it
	late  bool         // the row is not here yet: the stream is to get it from the log
}

// deliver brings a batch to every stream of its users. Its error means that
// nothing was delivered and the batch must come again.
func (h *hub) deliver(ctx context.Context, batch store.Batch) error {
	loaded := map[string]bool{} // users whose rows are in rows
	var rows []store.Notification
	for {
		missing := h.fanOut(ctx, batch, rows, loaded)
		if len(missing) == 0 {
			return nil
		}
		more, err := h.source.Load(ctx, missing)
		if err != nil {
			return err
		}
		for _, e := range missing {
			loaded[e.UserKey] = true
		}
		if rows == nil {
			rows = more
		} else {
			rows = append(rows, more...)
		}
	}
}

// fanOut moves the hub to the batch's position and sends rows to the live
// streams of their users; where rows are missing for one, it does nothing and
// returns their entries.
func (h *hub) fanOut(ctx context.Context, batch store.Batch, rows []store.Notification, loaded map[string]bool) (missing []store.Entry) {
	h.sending.Lock()
	defer h.sending.Unlock()
	missing, revoked := h.choose(batch, rows, loaded)
	for _, d := range h.send() {
		h.overflow(ctx, d)
	}
	for _, s := range revoked {
		h.end(s, endRevoked)
	}
	return missing
}

// send hands the deliveries over, and returns for each stream the first one
// that it did not take; what comes after it would come out of order. It needs
// sending.
func (h *hub) send() (refused []delivery) {
	var full map[*stream]bool // made when the first one is
	for _, d := range h.deliveries {
		if full[d.to] || !d.late && (d.to.out.Send(d.event) || d.spare) {
			continue
		}
		if full == nil {
			full = map[*stream]bool{}
		}
		full[d.to] = true
		refused = append(refused, d)
	}
	clear(h.deliveries) // so that nothing is held by what is left of them
	h.deliveries = h.deliveries[:0]
	h.sheet.wipe()
	return refused
}

// choose fills the deliveries with what a batch brings, and returns the streams
// that it ends. It needs sending.
func (h *hub) choose(batch store.Batch, rows []store.Notification, loaded map[string]bool) (missing []store.Entry, revoked []*stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if missing = h.missing(batch.Entries, loaded); len(missing) > 0 {
		return missing, nil
	}
	if h.next != nil {
		close(h.next)
		h.next, h.waiting = nil, 0
	}
	if h.position != nil {
		if reason := h.gap(*h.position, batch.Cursor); reason != "" {
			h.resetAll(&batch.Cursor, reason)
		}
	}
	var before string
	moved := h.position == nil || batch.Cursor.Moved(*h.position, h.config.CursorRefresh)
	if len(rows) > 0 {
		before = h.position.String()
	}
	h.before = h.position
	h.position, h.partial = &batch.Cursor, batch.Partial
	after := before
	if len(rows) > 0 && moved {
		after = batch.Cursor.String()
	}
	last := lastRows(rows)
	for i := range rows {
		n := &rows[i]
		late := errors.Is(n.Err, store.ErrLate)
		if late {
			h.config.Logger.Warn("notification is late", "item_id", n.ItemID)
		} else if n.Err != nil {
			h.config.Logger.Warn("notification cannot be read", "item_id", n.ItemID, "err", n.Err)
		} else if n.Data == nil {
			h.metrics.unknown.Inc() // deleted, given to somebody else, or never to be found: see gateway check
			h.config.Logger.Debug("notification is gone", "item_id", n.ItemID)
			continue
		}
		id := before
		if last[n.UserKey] == i {
			id = after
		}
		e := h.sheet.notification(id, *n)
		for _, s := range h.users[n.UserKey] {
			if !s.live || !s.wants(*n) {
				continue
			}
			if id == after {
				s.told = h.position
			}
			if n.Err != nil && !late {
				h.metrics.resets.WithLabelValues(resetUnreadable).Inc()
			}
			h.deliveries = append(h.deliveries, delivery{to: s, event: e, row: &n.Entry, late: late})
		}
	}
	for _, e := range batch.Entries {
		switch {
		case e.Disconnect != "":
			h.config.Logger.Info("streams revoked", slog.Int("streams", len(h.users[e.UserKey])), slog.String("reason", e.Disconnect))
			revoked = append(revoked, h.users[e.UserKey]...)
		case e.UserKey == "":
			h.config.Logger.Warn("notification without a recipient", "item_id", e.ItemID)
		case h.absent > 0:
			for _, s := range h.users[e.UserKey] {
				s.dirty = !s.live
			}
		}
	}
	return nil, revoked
}

// missing returns the entries whose users have a live stream and whose rows
// were not loaded yet. It needs mu.
func (h *hub) missing(entries []store.Entry, loaded map[string]bool) []store.Entry {
	var out []store.Entry
	for _, e := range entries {
		if e.Disconnect != "" || loaded[e.UserKey] {
			continue
		}
		if slices.ContainsFunc(h.users[e.UserKey], func(s *stream) bool { return s.live }) {
			if out == nil { // mostly all or none
				out = make([]store.Entry, 0, len(entries))
			}
			out = append(out, e)
		}
	}
	return out
}

// lastRows returns the index of each user's last row, which alone may carry the
// position after the batch.
func lastRows(rows []store.Notification) map[string]int {
	last := make(map[string]int, len(rows))
	for i, n := range rows {
		if n.Data != nil || n.Err != nil {
			last[n.UserKey] = i
		}
	}
	return last
}

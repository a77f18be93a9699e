package gateway

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// hub knows who is connected and up to which position batches were delivered.
type hub struct {
	config  Config
	source  Source
	metrics *metrics

	mu       sync.Mutex
	position store.Cursor                   // after the last delivered batch; guarded by mu
	users    map[string][]*stream           // by user key, oldest first; guarded by mu
	count    int                            // streams in users; guarded by mu
	wheel    wheel                          // guarded by mu
	expiring map[int64]map[*stream]struct{} // by the second in which the token expires; guarded by mu
	draining bool                           // guarded by mu
	empty    chan struct{}                  // closed when draining and count is 0; guarded by mu
}

func newHub(config Config, source Source, m *metrics) *hub {
	return &hub{
		config: config, source: source, metrics: m,
		users: map[string][]*stream{}, wheel: newWheel(config.PingInterval),
		expiring: map[int64]map[*stream]struct{}{}, empty: make(chan struct{}),
	}
}

// admit says why no stream can be opened now, or nil.
func (h *hub) admit() *httpError {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refusal()
}

// refusal needs mu.
func (h *hub) refusal() *httpError {
	switch {
	case h.draining:
		return errDraining()
	case h.position.IsZero():
		return errStarting()
	case h.count >= h.config.MaxStreams:
		return errFull()
	}
	return nil
}

// register adds s at the hub's position, which it returns. A user's oldest
// stream makes room for the newest. first is sent before anything else can be;
// when from is not needed the stream is live at once.
func (h *hub) register(s *stream, live bool, first func(at store.Cursor) []event) (store.Cursor, *httpError) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.refusal(); err != nil {
		return store.Cursor{}, err
	}
	key := s.recipient.UserKey
	if all := h.users[key]; len(all) >= h.config.MaxStreamsPerUser {
		h.end(all[0], endReplaced)
	}
	h.users[key] = append(h.users[key], s)
	h.count++
	h.wheel.add(s)
	if !s.expires.IsZero() {
		second := s.expires.Unix()
		if h.expiring[second] == nil {
			h.expiring[second] = map[*stream]struct{}{}
		}
		h.expiring[second][s] = struct{}{}
	}
	s.live, s.told = live, h.position
	h.metrics.streams.Inc()
	h.metrics.opened.Inc()
	for _, e := range first(h.position) {
		h.push(s, e)
	}
	return h.position, nil
}

// goLive makes s, whose client was told the position told, live, unless a batch
// for its user came meanwhile; then it returns the position up to which the
// replay must go on.
func (h *hub) goLive(s *stream, told store.Cursor) (to store.Cursor, live bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.dirty {
		s.dirty = false
		return h.position, false
	}
	s.live, s.told = true, told
	return h.position, true
}

// push hands e to the stream, and ends a stream that does not take it. It
// needs mu.
func (h *hub) push(s *stream, e event) {
	if !s.gone && !s.out.Send(e) {
		h.metrics.slow.Inc()
		h.end(s, endSlow)
	}
}

// end takes s out and tells its client why. It needs mu.
func (h *hub) end(s *stream, code string) {
	if s.gone {
		return
	}
	h.remove(s, code)
	how := endingOf(code)
	var retry time.Duration
	if code == endDraining {
		retry = h.config.retry()
	}
	s.out.End(errorEvent(how.code, how.message, retry))
}

// leave takes a stream out whose client is gone.
func (h *hub) leave(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !s.gone {
		h.remove(s, endClient)
	}
}

// stuck takes a stream out whose client did not read for a whole write
// deadline; there is no way left to tell it.
func (h *hub) stuck(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !s.gone {
		h.metrics.slow.Inc()
		h.remove(s, endSlow)
	}
}

// fail ends a stream whose replay could not go on.
func (h *hub) fail(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end(s, endInternal)
}

// remove needs mu.
func (h *hub) remove(s *stream, code string) {
	s.gone = true
	key := s.recipient.UserKey
	if rest := slices.DeleteFunc(h.users[key], func(o *stream) bool { return o == s }); len(rest) == 0 {
		delete(h.users, key)
	} else {
		h.users[key] = rest
	}
	h.wheel.remove(s)
	if !s.expires.IsZero() {
		second := s.expires.Unix()
		delete(h.expiring[second], s)
		if len(h.expiring[second]) == 0 {
			delete(h.expiring, second)
		}
	}
	h.count--
	h.metrics.streams.Dec()
	h.metrics.closed.WithLabelValues(code).Inc()
	if h.draining && h.count == 0 {
		close(h.empty)
	}
}

// deliver brings a batch to every stream of its users. Its error means that
// nothing was delivered and the batch must come again.
func (h *hub) deliver(ctx context.Context, batch store.Batch) error {
	loaded := map[string]bool{} // users whose rows are in rows
	var rows []store.Notification
	for {
		h.mu.Lock()
		missing := h.missing(batch.Entries, loaded)
		if len(missing) == 0 {
			h.fanOut(batch, rows)
			h.mu.Unlock()
			return nil
		}
		h.mu.Unlock()
		more, err := h.source.Load(ctx, missing)
		if err != nil {
			return err
		}
		for _, e := range missing {
			loaded[e.UserKey] = true
		}
		rows = append(rows, more...)
	}
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
			out = append(out, e)
		}
	}
	return out
}

// fanOut moves the hub to the batch's position and sends rows to the live
// streams of their users. It needs mu.
func (h *hub) fanOut(batch store.Batch, rows []store.Notification) {
	before := h.position.String()
	after, moved := before, batch.Cursor.Moved(h.position, h.config.CursorRefresh)
	if moved {
		after = batch.Cursor.String()
	}
	h.position = batch.Cursor
	last := map[string]int{} // index of each user's last row
	for i, n := range rows {
		if n.Data != nil || n.Err != nil {
			last[n.UserKey] = i
		}
	}
	for i, n := range rows {
		if n.Err != nil {
			h.config.Logger.Warn("notification cannot be read", "item_id", n.ItemID, "err", n.Err)
		} else if n.Data == nil {
			h.config.Logger.Debug("notification is gone", "item_id", n.ItemID)
			continue
		}
		id := before
		if last[n.UserKey] == i {
			id = after
		}
		e := notificationEvent(id, n)
		for _, s := range slices.Clone(h.users[n.UserKey]) { // push may take one out
			if !s.live || n.Err == nil && !s.wants(n.Type) {
				continue
			}
			if id == after {
				s.told = h.position
			}
			if n.Err != nil {
				h.metrics.resets.WithLabelValues("unreadable").Inc()
			}
			h.push(s, e)
		}
	}
	for _, e := range batch.Entries {
		switch {
		case e.Disconnect != "":
			h.config.Logger.Info("streams revoked", slog.Int("streams", len(h.users[e.UserKey])))
			for _, s := range slices.Clone(h.users[e.UserKey]) {
				h.end(s, endRevoked)
			}
		case e.UserKey == "":
			h.config.Logger.Warn("notification without a recipient", "item_id", e.ItemID)
		default:
			for _, s := range h.users[e.UserKey] {
				s.dirty = !s.live
			}
		}
	}
}

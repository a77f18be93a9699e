package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

const (
	countPause   = time.Second // between two counts of one user
	countWorkers = 4           // counts that are asked for at once
)

// unreadCounts says whose unread notifications must be counted again. Only users
// with a stream that asks for the count are in it. It is guarded by hub.mu.
type unreadCounts struct {
	users map[string]*unreadCount // by the recipient's own key
	dirty chan struct{}           // holds a value when there may be something to count; capacity: 1
}

// unreadCount is what is known of one user.
type unreadCount struct {
	streams int       // that ask for it
	changed bool      // since it was last asked for
	asking  bool      // a question is under way
	asked   time.Time // when the last question began
	data    string    // of the last event; empty before there was one
}

func newUnreadCounts() unreadCounts {
	return unreadCounts{users: map[string]*unreadCount{}, dirty: make(chan struct{}, 1)}
}

func (c *unreadCounts) addLocked(s *stream) {
	if !s.counts {
		return
	}
	u := c.users[s.recipient.UserKey]
	if u == nil {
		u = &unreadCount{}
		c.users[s.recipient.UserKey] = u
	}
	u.streams++
	u.changed = true // it has not been told yet
	c.wakeLocked()
}

func (c *unreadCounts) removeLocked(s *stream) {
	if !s.counts {
		return
	}
	u := c.users[s.recipient.UserKey]
	if u.streams--; u.streams == 0 {
		delete(c.users, s.recipient.UserKey)
	}
}

// changedLocked notes what a batch brings.
func (c *unreadCounts) changedLocked(entries []store.Entry) {
	if len(c.users) == 0 {
		return
	}
	for _, e := range entries {
		switch u := c.users[e.UserKey]; {
		case e.Disconnect != "":
		case u != nil:
			u.changed = true
			c.wakeLocked()
		case e.UserKey == everybodyKey && e.Change == store.ChangeRefresh:
			for _, u := range c.users {
				u.changed = true
			}
			c.wakeLocked()
		}
	}
}

func (c *unreadCounts) wakeLocked() {
	select {
	case c.dirty <- struct{}{}:
	default:
	}
}

// dueLocked returns the users to count now, and how long to wait for the next one
// that is too early; zero where there is none. A count older than refresh is asked
// for again though nothing is known to have changed.
func (c *unreadCounts) dueLocked(now time.Time, refresh time.Duration) (due []string, wait time.Duration) {
	for key, u := range c.users {
		since := now.Sub(u.asked)
		switch {
		case u.asking || !u.changed && (refresh <= 0 || since < refresh):
		case since < countPause:
			if left := countPause - since; wait == 0 || left < wait {
				wait = left
			}
		default:
			u.changed, u.asking, u.asked = false, true, now
			due = append(due, key)
		}
	}
	return due, wait
}

// runCounts counts the unread notifications of those who ask, until ctx ends. Each
// user is counted at most once a second, however much comes for them.
func (h *hub) runCounts(ctx context.Context) {
	slots := make(chan struct{}, countWorkers)
	refresh := time.NewTicker(max(h.config.CountRefresh/checkSlices, countPause))
	defer refresh.Stop()
	for {
		h.mu.Lock()
		due, wait := h.counts.dueLocked(time.Now(), h.config.CountRefresh)
		h.mu.Unlock()
		for _, key := range due {
			slots <- struct{}{}
			go func() { // the end waits for all slots
				defer func() { <-slots }()
				h.count(ctx, key)
			}()
		}
		var early <-chan time.Time
		if wait > 0 {
			early = time.After(wait)
		}
		select {
		case <-h.counts.dirty:
		case <-early:
		case <-refresh.C:
		case <-ctx.Done():
			for range countWorkers {
				slots <- struct{}{}
			}
			return
		}
	}
}

// count asks for one user's count, and tells those streams that do not know it.
func (h *hub) count(ctx context.Context, key string) {
	n, more, err := h.source.CountUnread(ctx, key)
	if err != nil && ctx.Err() == nil {
		h.log.error("unread notifications are not counted", "err", err)
	}
	data := fmt.Sprintf(`{"count":%d}`, n)
	if more {
		data = fmt.Sprintf(`{"count":%d,"more":true}`, n)
	}
	h.mu.Lock()
	u := h.counts.users[key]
	if u == nil { // all have left
		h.mu.Unlock()
		return
	}
	u.asking = false
	if err != nil {
		u.changed = true
		h.counts.wakeLocked()
		h.mu.Unlock()
		return
	}
	changed := data != u.data
	u.data = data
	var to []*stream
	for _, s := range h.streams.of(key) {
		if s.counts && (changed || !s.counted) {
			s.counted = true
			to = append(to, s)
		}
	}
	h.mu.Unlock()
	e := encode("", eventUnread, 0, []byte(data))
	for _, s := range to {
		if !s.out.Send(e) {
			h.notCounted(s)
		}
	}
}

// notCounted has a stream whose buffer is full told later.
func (h *hub) notCounted(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if u := h.counts.users[s.recipient.UserKey]; u != nil && s.state != streamClosed {
		s.counted, u.changed = false, true
		h.counts.wakeLocked()
	}
}

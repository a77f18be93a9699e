package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

const (
	countPause   = time.Second      // between two counts of one user
	countRetry   = 10 * time.Second // after a count that could not be had
	countWorkers = 4                // counts that are asked for at once
)

// unreadCounts says whose unread notifications must be counted again. Only users
// with a stream that asks for the count are in it. It is guarded by hub.mu.
type unreadCounts struct {
	users   map[string]*unreadCount // by the recipient's own key
	changed map[string]*unreadCount // those of them to count again; the others need not be looked at for each batch
	wake    chan struct{}           // holds a value when changed has got a user; capacity: 1
}

// unreadCount is what is known of one user.
type unreadCount struct {
	streams int       // that ask for it
	asking  bool      // a question is under way
	asked   time.Time // when the last question began; later, where it failed
	data    string    // of the last event; empty before there was one
}

func newUnreadCounts() unreadCounts {
	return unreadCounts{users: map[string]*unreadCount{}, changed: map[string]*unreadCount{}, wake: make(chan struct{}, 1)}
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
	c.markLocked(s.recipient.UserKey) // it has not been told yet
}

func (c *unreadCounts) removeLocked(s *stream) {
	if !s.counts {
		return
	}
	u := c.users[s.recipient.UserKey]
	if u.streams--; u.streams == 0 {
		delete(c.users, s.recipient.UserKey)
		delete(c.changed, s.recipient.UserKey)
	}
}

// changedLocked notes what a batch brings.
func (c *unreadCounts) changedLocked(entries []store.Entry) {
	if len(c.users) == 0 {
		return
	}
	for _, e := range entries {
		switch {
		case e.Disconnect != "":
		case e.UserKey == everybodyKey && e.Change == store.ChangeRefresh:
			for key := range c.users {
				c.markLocked(key)
			}
		default:
			c.markLocked(e.UserKey)
		}
	}
}

// markLocked has a user counted again, if anybody asks for it.
func (c *unreadCounts) markLocked(key string) {
	u := c.users[key]
	if u == nil {
		return
	}
	c.changed[key] = u
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// refreshLocked has those counted again whose count is older than a while, though
// nothing is known to have changed.
func (c *unreadCounts) refreshLocked(now time.Time, old time.Duration) {
	for key, u := range c.users {
		if old > 0 && now.Sub(u.asked) >= old {
			c.markLocked(key)
		}
	}
}

// dueLocked returns the users to count now, and how long to wait for the next one
// that is too early; zero where there is none.
func (c *unreadCounts) dueLocked(now time.Time) (due []string, wait time.Duration) {
	for key, u := range c.changed {
		switch left := countPause - now.Sub(u.asked); {
		case u.asking: // the answer marks it, if it must
		case left > 0:
			if wait == 0 || left < wait {
				wait = left
			}
		default:
			u.asking, u.asked = true, now
			delete(c.changed, key)
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
		due, wait := h.counts.dueLocked(time.Now())
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
		case <-h.counts.wake:
		case <-early:
		case now := <-refresh.C:
			h.mu.Lock()
			h.counts.refreshLocked(now, h.config.CountRefresh)
			h.mu.Unlock()
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
	if _, again := h.counts.changed[key]; again {
		h.counts.markLocked(key) // something came while it was counted
	}
	if err != nil {
		u.asked = time.Now().Add(countRetry - countPause)
		h.counts.markLocked(key)
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
	if s.state != streamClosed {
		s.counted = false
		h.counts.markLocked(s.recipient.UserKey)
	}
}

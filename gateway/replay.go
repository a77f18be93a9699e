package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// catchUp brings a stream what its client has missed between from and to, and
// what came while it did, and makes it live. While Postgres is away it waits.
// It runs in a goroutine of the request, which waits for it.
func (h *hub) catchUp(ctx context.Context, s *stream, from, to store.Cursor) error {
	told := from
	for {
		var after store.Place
		for pause := replayPauseMin; ; {
			if !from.SameInstallation(to) {
				h.metrics.resets.WithLabelValues("foreign").Inc()
				if err := send(ctx, s, resetEvent(to.String(), "foreign")); err != nil {
					return err
				}
				told = to
				break
			}
			page, err := h.source.Replay(ctx, s.recipient.UserKey, from, to, after, h.config.ReplayLimit)
			if err != nil {
				if to, err = h.wait(ctx, "replay waits for Postgres", err, &pause, to); err != nil {
					return err
				}
				continue
			}
			if told, err = h.sendPage(ctx, s, page.Notifications, page.After, told); err != nil {
				return err
			}
			if !page.More {
				break
			}
			if h.left(s) { // nobody reads the rest
				return errStreamEnded
			}
			after, pause = page.Next, replayPauseMin
		}
		var live bool
		var err error
		from = to
		if to, live, err = h.goLive(ctx, s, told); live || err != nil {
			return err
		}
	}
}

// wait logs why a replay did not come and returns when it may be tried again.
// A position to replay to may be kept over it, but not into another
// installation.
func (h *hub) wait(ctx context.Context, message string, cause error, pause *time.Duration, to store.Cursor) (store.Cursor, error) {
	if ctx.Err() != nil {
		return to, context.Cause(ctx)
	}
	h.complaints.error(message, "err", cause)
	now, err := h.recovered(ctx, *pause)
	if err != nil {
		return to, err
	}
	*pause = min(2**pause, replayPauseMax)
	if now.SameInstallation(to) {
		return to, nil
	}
	return now, nil
}

// unread brings a stream its user's unread notifications and makes it live.
// Until the last of them the client has no position: a connection that breaks
// before is answered with a reset.
func (h *hub) unread(ctx context.Context, s *stream, at store.Cursor) error {
	all, err := h.source.Unread(ctx, s.recipient.UserKey, h.config.ReplayLimit)
	for pause := replayPauseMin; err != nil; {
		if at, err = h.wait(ctx, "unread notifications wait for Postgres", err, &pause, at); err != nil {
			return err
		}
		all, err = h.source.Unread(ctx, s.recipient.UserKey, h.config.ReplayLimit)
	}
	after := make([]store.Cursor, len(all))
	if len(all) > 0 {
		after[len(all)-1] = at
	}
	told, err := h.sendPage(ctx, s, all, after, store.Cursor{})
	if err != nil {
		return err
	}
	if told.IsZero() { // no event carried the position
		if err := send(ctx, s, pingEvent(at.String(), time.Now())); err != nil {
			return err
		}
	}
	to, live, err := h.goLive(ctx, s, at)
	if live || err != nil {
		return err
	}
	return h.catchUp(ctx, s, at, to)
}

// sendPage sends rows as fast as the client reads them. Each carries the
// position that reading it proves: after has one for each row, zero where it
// is still that of the row before. told is the position in the last id that
// was sent before, and the one it returns that of the last sent now.
func (h *hub) sendPage(ctx context.Context, s *stream, rows []store.Notification, after []store.Cursor, told store.Cursor) (store.Cursor, error) {
	proven := told
	for i, n := range rows {
		if !after[i].IsZero() {
			proven = after[i]
		}
		if n.Err == nil && (n.Data == nil || !s.wants(n)) {
			continue
		}
		if n.Err != nil {
			h.config.Logger.Warn("notification cannot be read", "item_id", n.ItemID, "err", n.Err)
			h.metrics.resets.WithLabelValues("unreadable").Inc()
		}
		e := notificationEvent(proven.String(), n)
		e.captured = time.Time{} // its delay is the client's absence
		if err := send(ctx, s, e); err != nil {
			return told, err
		}
		told = proven
		h.metrics.replayed.Inc()
	}
	return told, nil
}

// send waits for the client instead of ending a slow one.
func send(ctx context.Context, s *stream, e *event) error {
	for !s.out.Send(e) {
		if err := s.out.Drained(ctx); err != nil {
			return fmt.Errorf("wait for the client: %w", err)
		}
	}
	return nil
}

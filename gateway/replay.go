package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// catchUp brings a stream what its client has missed between from and to, and
// what came while it did, and makes it live. While Postgres is away it waits.
// It begins after a place, and runs in a goroutine of the request, which waits
// for it, or of a burst.
func (h *hub) catchUp(ctx context.Context, s *stream, from, to store.Cursor, after store.Place, pace pace) error {
	told := from
	for ; ; after = (store.Place{}) {
		for pause := replayPauseMin; ; {
			if reason := h.gap(from, to); reason != "" {
				h.metrics.resets.WithLabelValues(reason).Inc()
				if err := send(ctx, s, resetEvent(to.String(), reason), pace); err != nil {
					return err
				}
				told = to
				break
			}
			page, err := h.source.Replay(ctx, s.recipient.UserKey, from, to, after, pace.page)
			if err != nil {
				if to, err = h.wait(ctx, "replay waits for Postgres", err, &pause, from, to); err != nil {
					return err
				}
				continue
			}
			if told, err = h.sendPage(ctx, s, page.Notifications, page.After, told, pace); err != nil {
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
// The position to replay to is kept over it, unless there is a gap behind from
// by now.
func (h *hub) wait(ctx context.Context, message string, cause error, pause *time.Duration, from, to store.Cursor) (store.Cursor, error) {
	if ctx.Err() != nil {
		return to, context.Cause(ctx)
	}
	h.complaints.error(message, "err", cause)
	now, err := h.recovered(ctx, *pause)
	if err != nil {
		return to, err
	}
	*pause = min(2**pause, replayPauseMax)
	if h.gap(from, now) == "" {
		return to, nil
	}
	return now, nil
}

// unread brings a stream its user's unread notifications and makes it live.
// Until the last of them the client has no position: a connection that breaks
// before is answered with a reset.
func (h *hub) unread(ctx context.Context, s *stream, at store.Cursor) error {
	var list store.UnreadList
	var unlisted error
	ask := func() (err error) {
		list, err = h.source.Unread(ctx, s.recipient.UserKey, h.config.ReplayLimit)
		if errors.Is(err, store.ErrUnlisted) {
			unlisted, err = err, nil
		}
		return err
	}
	at, err := h.persist(ctx, at, ask)
	if err != nil {
		return err
	}
	pace, told := h.resumePace(), store.Cursor{}
	if unlisted != nil {
		h.complaints.error("unread notifications cannot be listed", "err", unlisted)
		told = at // no row follows
	}
	for _, reason := range unreadResets(list, unlisted) {
		h.metrics.resets.WithLabelValues(reason).Inc()
		if err := send(ctx, s, resetEvent(told.String(), reason), pace); err != nil {
			return err
		}
	}
	for rest := list.Entries; len(rest) > 0; {
		var page []store.Notification
		// The position stays: it is that of the list.
		if _, err := h.persist(ctx, at, func() (err error) { page, err = h.source.LoadPage(ctx, rest); return err }); err != nil {
			return err
		}
		after := make([]store.Cursor, len(page))
		if rest = rest[len(page):]; len(rest) == 0 {
			after[len(page)-1] = at
		}
		if told, err = h.sendPage(ctx, s, page, after, told, pace); err != nil {
			return err
		}
		if h.left(s) { // nobody reads the rest
			return errStreamEnded
		}
	}
	if told.IsZero() { // no event carried the position
		if err := send(ctx, s, pingEvent(at.String(), time.Now()), pace); err != nil {
			return err
		}
	}
	to, live, err := h.goLive(ctx, s, at)
	if live || err != nil {
		return err
	}
	return h.catchUp(ctx, s, at, to, store.Place{}, pace)
}

// unreadResets are the reasons for which the client must reload its list besides
// getting the rows that were listed.
func unreadResets(list store.UnreadList, unlisted error) (reasons []string) {
	if list.Truncated {
		reasons = append(reasons, resetTruncated)
	}
	if list.Unreadable > 0 || unlisted != nil {
		reasons = append(reasons, resetUnreadable)
	}
	return reasons
}

// persist asks until Postgres answers, and returns the position by then.
func (h *hub) persist(ctx context.Context, at store.Cursor, ask func() error) (store.Cursor, error) {
	for pause := replayPauseMin; ; {
		err := ask()
		if err == nil {
			return at, nil
		}
		if at, err = h.wait(ctx, "unread notifications wait for Postgres", err, &pause, at, at); err != nil {
			return at, err
		}
	}
}

// sendPage sends rows as fast as the client reads them. Each carries the
// position that reading it proves: after has one for each row, zero where it
// is still that of the row before, as among the unread. told is the position in
// the last id that was sent before, and the one it returns that of the last sent
// now.
func (h *hub) sendPage(ctx context.Context, s *stream, rows []store.Notification, after []store.Cursor, told store.Cursor, pace pace) (store.Cursor, error) {
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
			h.metrics.resets.WithLabelValues(resetUnreadable).Inc()
		}
		e := notificationEvent(proven.String(), n)
		e.captured = time.Time{} // its delay is the client's absence
		if err := send(ctx, s, e, pace); err != nil {
			return told, err
		}
		told = proven
		h.metrics.replayed.Inc()
	}
	return told, nil
}

// pace is how a replay treats its client.
type pace struct {
	page     int           // rows at a time
	patience time.Duration // how long the client may take nothing; zero leaves that to the transport
}

// resumePace is that of a client that comes back.
func (h *hub) resumePace() pace { return pace{page: h.config.ReplayLimit} }

// send waits for the client instead of ending a slow one. Its error is
// errStalled when patience is over.
func send(ctx context.Context, s *stream, e *event, pace pace) error {
	for !s.out.Send(e) {
		waiting, cancel := ctx, context.CancelFunc(func() {})
		if pace.patience > 0 {
			waiting, cancel = context.WithTimeout(ctx, pace.patience)
		}
		err := s.out.Drained(waiting)
		cancel()
		switch {
		case err == nil, waiting.Err() != nil && ctx.Err() == nil && s.out.Stalled() < pace.patience:
		case waiting.Err() != nil && ctx.Err() == nil:
			return errStalled
		default:
			return fmt.Errorf("wait for the client: %w", err)
		}
	}
	return nil
}

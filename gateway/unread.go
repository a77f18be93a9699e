package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// runUnread sends the recipient's unread notifications, then what came
// meanwhile, and makes the stream live. Until the last of the unread has been
// sent the client has no position: one that loses its connection before is
// answered with a reset.
func (c *catchUp) runUnread(ctx context.Context) error {
	rest, err := c.listUnread(ctx)
	if err != nil {
		return err
	}
	at := c.from // the position of the list
	for len(rest) > 0 {
		page, err := c.loadUnread(ctx, rest)
		if err != nil {
			return err
		}
		after := make([]store.Cursor, len(page))
		if rest = rest[len(page):]; len(rest) == 0 {
			after[len(page)-1] = at
		}
		if err := c.sendRows(ctx, page, after); err != nil {
			return err
		}
		if c.hub.closed(c.stream) { // nobody reads the rest
			return errStreamEnded
		}
	}
	if c.sent.IsZero() { // no event carried the position
		if err := c.send(ctx, pingEvent(at.String(), time.Now())); err != nil {
			return err
		}
	}
	c.sent, c.to = at, at
	live, err := c.goLive(ctx)
	if live || err != nil {
		return err
	}
	return c.run(ctx)
}

// listUnread returns the recipient's unread notifications. The client is told to
// reload where the list has not all of them.
func (c *catchUp) listUnread(ctx context.Context) ([]store.Entry, error) {
	var list store.UnreadList
	err := c.retryUntilAnswered(ctx, func() (err error) {
		list, err = c.hub.source.Unread(ctx, c.stream.recipient.UserKey, c.hub.config.ReplayLimit)
		return err
	})
	c.from = c.to // it moved where Postgres was away for too long
	if err != nil && !errors.Is(err, store.ErrUnlisted) {
		return nil, err
	}
	at := store.Cursor{} // none yet: rows follow
	if err != nil {
		c.hub.log.error("unread notifications cannot be listed", "err", err)
		list.Unreadable, at = 1, c.from
	}
	if list.Truncated {
		if err := c.sendReset(ctx, at, resetTruncated); err != nil {
			return nil, err
		}
	}
	if list.Unreadable > 0 {
		if err := c.sendReset(ctx, at, resetUnreadable); err != nil {
			return nil, err
		}
	}
	return list.Entries, nil
}

// loadUnread brings the rows of the first of entries.
func (c *catchUp) loadUnread(ctx context.Context, entries []store.Entry) (page []store.Notification, err error) {
	err = c.retryUntilAnswered(ctx, func() (err error) {
		page, err = c.hub.source.LoadPage(ctx, entries)
		return err
	})
	return page, err
}

// retryUntilAnswered asks Postgres until it answers, be it with ErrUnlisted.
func (c *catchUp) retryUntilAnswered(ctx context.Context, ask func() error) error {
	c.pause = retryPauseMin
	for {
		err := ask()
		if err == nil || errors.Is(err, store.ErrUnlisted) {
			return err
		}
		if err := c.waitForPostgres(ctx, "unread notifications wait for Postgres", err); err != nil {
			return err
		}
	}
}

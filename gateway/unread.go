package gateway

import (
	"context"
	"encoding/binary"
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
	counted := len(rest.packed)
	c.hub.replays.count(counted)
	defer func() { c.hub.replays.count(-counted) }()
	at := c.from // the position of the list
	c.pause = retryPauseMin
	for !rest.empty() {
		err := c.withPage(ctx, func(bytes int) (sent int, err error) {
			page, err := c.hub.source.LoadPage(ctx, rest.first(c.rows, c.stream.recipient.UserKey), bytes)
			if err != nil {
				return 0, &sourceError{err}
			}
			after := make([]store.Cursor, len(page))
			if len(page) == rest.count {
				after[len(page)-1] = at
			}
			n, sent := c.sendRows(page, after)
			rest.drop(n)
			c.hub.replays.count(len(rest.packed) - counted)
			counted = len(rest.packed)
			c.rows = c.rowsFor(page, bytes)
			return sent, nil
		})
		var failed *sourceError
		switch {
		case errors.As(err, &failed):
			if err := c.waitForPostgres(ctx, "unread notifications wait for Postgres", failed.err); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			c.pause = retryPauseMin
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
func (c *catchUp) listUnread(ctx context.Context) (itemList, error) {
	var list store.UnreadList
	c.pause = retryPauseMin
	var unlisted error
	for {
		var err error
		list, err = c.hub.source.Unread(ctx, c.stream.recipient.UserKey, c.hub.config.ReplayLimit)
		if errors.Is(err, store.ErrUnreadUnreadable) {
			unlisted, err = err, nil
		}
		if err == nil {
			break
		}
		if err := c.waitForPostgres(ctx, "unread notifications wait for Postgres", err); err != nil {
			return itemList{}, err
		}
	}
	c.from = c.to                                       // it moved where Postgres was away for too long
	rest, at := listItems(list.Entries), store.Cursor{} // no position yet: rows follow
	if unlisted != nil {
		c.hub.log.error("unread notifications cannot be listed", "err", unlisted)
		list.Unreadable, at = 1, c.from
	}
	if list.Truncated {
		if err := c.sendReset(ctx, at, resetTruncated); err != nil {
			return rest, err
		}
	}
	if list.Unreadable > 0 {
		if err := c.sendReset(ctx, at, resetUnreadable); err != nil {
			return rest, err
		}
	}
	return rest, nil
}

// itemList is a list of item IDs in little memory: a replay holds it as long as
// its client reads, and there may be thousands of replays. An entry would cost ten
// times as much.
type itemList struct {
	packed []byte // for each ID its length, as a varint, and its bytes
	count  int
}

func listItems(entries []store.Entry) itemList {
	size := 0
	for _, e := range entries {
		size += binary.MaxVarintLen16 + len(e.ItemID)
	}
	l := itemList{make([]byte, 0, size), len(entries)}
	for _, e := range entries {
		l.packed = append(binary.AppendUvarint(l.packed, uint64(len(e.ItemID))), e.ItemID...)
	}
	return l
}

func (l *itemList) empty() bool { return l.count == 0 }

// next splits the first ID off a packed list.
func next(packed []byte) (id, rest []byte) {
	size, n := binary.Uvarint(packed)
	end := n + int(size)
	return packed[n:end], packed[end:]
}

// first returns the first entries, at most n.
func (l *itemList) first(n int, userKey string) []store.Entry {
	entries := make([]store.Entry, min(n, l.count))
	var id []byte
	for i, rest := 0, l.packed; i < len(entries); i++ {
		id, rest = next(rest)
		entries[i] = store.Entry{UserKey: userKey, ItemID: string(id)}
	}
	return entries
}

// drop removes the first n.
func (l *itemList) drop(n int) {
	for range n {
		_, l.packed = next(l.packed)
		l.count--
	}
}

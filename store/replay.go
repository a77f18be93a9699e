package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// replaySQL reads a user's log rows that the client's snapshot did not see,
// page by page in order of transaction ID. $1 user, $2 xmax, $3 xip, ($4, $5)
// where the last page ended, $6 how many. Of transaction $7, which the snapshot
// did not see, the client has the rows up to position $8.
const (
	replayColumns = `SELECT xid, position, inserted_at, item_id FROM notification_gateway.log
  WHERE user_key = $1 AND disconnect IS NULL AND (xid, position) > ($4::text::xid8, $5::bigint)
    AND NOT (xid = $7::text::xid8 AND position <= $8) AND `
	replaySQL = replayColumns + `xid >= $2::text::xid8
UNION ALL ` + replayColumns + `xid = ANY ($3::text[]::xid8[]) AND xid < $2::text::xid8`
	// replayGuardSQL follows when the cursor comes from another incarnation.
	replayGuardSQL = `
UNION ALL ` + replayColumns + `xid < $2::text::xid8 AND xid <> ALL ($3::text[]::xid8[]) AND inserted_at > $9`
	replayPage  = "SELECT xid::text, position, inserted_at, item_id FROM ("
	replayOrder = ") r ORDER BY r.xid, r.position LIMIT $6"
)

// Replay brings a page of what the position from has not seen and the position
// to has, for one user, with full rows. limit is in log rows.
func (s *Store) Replay(ctx context.Context, userKey string, from, to Cursor, after Place, limit int) (Page, error) {
	entries, known := s.recent.replay(userKey, from, after, limit+1)
	source := replayMemory
	if !known {
		source = replayLog
		var err error
		if entries, err = s.replayEntries(ctx, userKey, from, to, after, limit+1); err != nil {
			return Page{}, fmt.Errorf("replay: %w", err)
		}
	}
	s.config.Metrics.replays.WithLabelValues(source).Inc()
	page := Page{More: len(entries) > limit}
	rows := min(limit, len(entries))
	if page.More {
		page.Next = entries[rows-1].place()
	}
	var visible []Entry
	for i, e := range entries[:rows] {
		if !to.sees(e) { // what came after is brought by the live feed
			continue
		}
		visible = append(visible, e)
		after := to.through(e.XID, from)
		if i+1 < len(entries) && entries[i+1].XID == e.XID { // the transaction goes on
			after = to.inside(e.place(), from)
		}
		page.After = append(page.After, after)
	}
	if n := len(visible); n > 0 && !page.More {
		page.After[n-1] = to
	}
	var err error
	if page.Notifications, err = s.load(ctx, visible, s.replays); err != nil {
		return Page{}, fmt.Errorf("replay: %w", err)
	}
	if n := len(page.Notifications); n < len(visible) { // too large: the rest is another page
		page.After, page.Next, page.More = page.After[:n], visible[n-1].place(), true
	}
	return page, nil
}

func (s *Store) replayEntries(ctx context.Context, userKey string, from, to Cursor, after Place, limit int) ([]Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, s.replays.deadline)
	defer cancel()
	query, place := replaySQL, from.place
	guarded := from.incarnation != to.incarnation
	if guarded {
		query, place = replaySQL+replayGuardSQL, Place{} // its transaction ID may be another's by now
	}
	args := []any{
		userKey, strconv.FormatUint(from.snapshot.Xmax, 10), xids(from.snapshot.Xip),
		strconv.FormatUint(after.xid, 10), after.position, limit,
		strconv.FormatUint(place.xid, 10), place.position,
	}
	if guarded {
		args = append(args, from.at.Add(-guard))
	}
	rows, err := s.query(ctx, replayPage+query+replayOrder, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var entries []Entry
	for rows.Next() {
		e := Entry{UserKey: userKey}
		var xid string
		if err := rows.Scan(&xid, &e.Position, &e.InsertedAt, &e.ItemID); err != nil {
			return nil, err
		}
		if e.XID, err = strconv.ParseUint(xid, 10, 64); err != nil {
			return nil, fmt.Errorf("transaction ID: %w", err)
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// ErrUnlisted is returned by Unread where one of the user's rows cannot be read
// so far as is needed for the list. It will not get better by itself: the user
// must be told that something was missed.
var ErrUnlisted = errors.New("a row keeps the unread notifications from being listed")

// UnreadList is what Unread found.
type UnreadList struct {
	Entries    []Entry // oldest first
	Truncated  bool    // there are more than the limit, and Entries are the newest
	Unreadable int     // rows of which it cannot be said whether they are unread, because the view fails for them
}

// Unread lists a user's unread notifications for LoadPage to bring: the newest
// limit of them, oldest first. They are no part of the commit order; the caller
// registers at a position first and so can only repeat, not miss.
func (s *Store) Unread(ctx context.Context, userKey string, limit int) (UnreadList, error) {
	server := s.server.Load()
	if server == nil {
		return UnreadList{}, ErrNotReady
	}
	list, err := s.unread(ctx, server, userKey, limit)
	if err == nil {
		return list, nil
	}
	if anew, typeErr := s.relearn(ctx, s.replays.deadline); !anew && typeErr == nil && pg.IsRowError(err) {
		if _, viewErr := s.loadRows(ctx, server, nil, s.replays); viewErr == nil { // else no row is at fault
			err = fmt.Errorf("%w: %w", ErrUnlisted, err)
		}
	}
	return UnreadList{}, fmt.Errorf("list the unread: %w", err)
}

// unread asks for one row more than the limit, which says that there are more.
// The order of the newest comes from created_at, of which no value is read:
// Postgres has values, such as infinity, that Go has not.
func (s *Store) unread(ctx context.Context, server *server, userKey string, limit int) (list UnreadList, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.replays.deadline)
	defer cancel()
	rows, err := s.query(ctx, "SELECT id::text FROM notification_gateway.feed f WHERE user_key = $1::text::"+server.keyType+
		" AND NOT is_read ORDER BY created_at DESC, f.id DESC LIMIT $2", userKey, limit+1)
	if err != nil {
		return list, err
	}
	defer rows.Close()
	for rows.Next() {
		e := Entry{UserKey: userKey}
		if err := rows.Scan(&e.ItemID); err != nil {
			return list, err
		}
		list.Entries = append(list.Entries, e)
	}
	if len(list.Entries) > limit {
		list.Entries, list.Truncated = list.Entries[:limit], true
	}
	slices.Reverse(list.Entries)
	return list, rows.Err()
}

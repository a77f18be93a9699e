package store

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// replaySQL reads a user's log rows that the client's snapshot did not see,
// page by page in order of transaction ID. $1 user, $2 xmax, $3 xip, ($4, $5)
// where the last page ended, $6 how many.
const (
	replayColumns = `SELECT xid, position, inserted_at, item_id FROM notification_gateway.log
  WHERE user_key = $1 AND disconnect IS NULL AND (xid, position) > ($4::text::xid8, $5::bigint) AND `
	replaySQL = replayColumns + `xid >= $2::text::xid8
UNION ALL ` + replayColumns + `xid = ANY ($3::text[]::xid8[]) AND xid < $2::text::xid8`
	// replayGuardSQL follows when the cursor comes from another incarnation.
	replayGuardSQL = `
UNION ALL ` + replayColumns + `xid < $2::text::xid8 AND xid <> ALL ($3::text[]::xid8[]) AND inserted_at > $7`
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
	var page Page
	if len(entries) > limit {
		entries = entries[:limit]
		last := entries[limit-1]
		page.More = true
		page.Next = Place{last.XID, last.Position}
	}
	visible := entries[:0]
	for _, e := range entries {
		if to.snapshot.Sees(e.XID) { // what came after is brought by the live feed
			visible = append(visible, e)
		}
	}
	page.After = make([]Cursor, len(visible))
	for i, e := range visible {
		switch {
		case i+1 < len(visible) && visible[i+1].XID != e.XID:
			page.After[i] = to.through(e.XID, from)
		case i+1 == len(visible) && !page.More:
			page.After[i] = to
		}
	}
	var err error
	if page.Notifications, err = s.load(ctx, visible); err != nil {
		return Page{}, fmt.Errorf("replay: %w", err)
	}
	return page, nil
}

func (s *Store) replayEntries(ctx context.Context, userKey string, from, to Cursor, after Place, limit int) ([]Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, loadDeadline)
	defer cancel()
	query := replaySQL
	args := []any{
		userKey, strconv.FormatUint(from.snapshot.Xmax, 10), xids(from.snapshot.Xip),
		strconv.FormatUint(after.xid, 10), after.position, limit,
	}
	if from.incarnation != to.incarnation {
		query += replayGuardSQL
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

// Unread brings a user's unread notifications, oldest first, at most limit.
// They are no part of the commit order; the caller registers at a position
// first and so can only repeat, not miss.
func (s *Store) Unread(ctx context.Context, userKey string, limit int) ([]Notification, error) {
	server := s.server.Load()
	if server == nil {
		return nil, ErrNotReady
	}
	ctx, cancel := context.WithTimeout(ctx, loadDeadline)
	defer cancel()
	rows, err := s.query(ctx, "SELECT id::text, created_at, "+dataColumns+" FROM notification_gateway.feed WHERE user_key = $1::text::"+server.keyType+
		" AND NOT is_read ORDER BY created_at, id LIMIT $2", userKey, limit)
	if err != nil {
		return nil, fmt.Errorf("read the unread: %w", err)
	}
	defer rows.Close()
	var out []Notification
	for rows.Next() {
		n := Notification{Entry: Entry{UserKey: userKey}}
		var data []byte
		var known *bool
		var createdAt *time.Time
		if err := rows.Scan(&n.ItemID, &createdAt, &data, &known); err != nil {
			return nil, fmt.Errorf("read the unread: %w", err)
		}
		if createdAt != nil {
			n.InsertedAt = *createdAt
		}
		n.Data, n.Err = line(data, known != nil && *known)
		out = append(out, n)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the unread: %w", err)
	}
	return out, nil
}

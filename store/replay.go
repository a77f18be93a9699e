package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// replaySQL reads a user's log rows that the client's snapshot did not see,
// page by page in order of transaction ID. $1 user, $2 xmax, $3 xip, ($4, $5)
// where the last page ended, $6 how many. Of transaction $7, which the snapshot
// did not see, the client has the rows up to position $8.
const replaySQL = `SELECT xid::text, position, CASE WHEN isfinite(inserted_at) THEN inserted_at END, item_id FROM (
  SELECT xid, position, inserted_at, item_id FROM notification_gateway.log
  WHERE user_key = $1 AND disconnect IS NULL AND (xid, position) > ($4::text::xid8, $5::bigint)
    AND NOT (xid = $7::text::xid8 AND position <= $8) AND xid >= $2::text::xid8
UNION ALL
  SELECT xid, position, inserted_at, item_id FROM notification_gateway.log
  WHERE user_key = $1 AND disconnect IS NULL AND (xid, position) > ($4::text::xid8, $5::bigint)
    AND NOT (xid = $7::text::xid8 AND position <= $8) AND xid = ANY ($3::text[]::xid8[]) AND xid < $2::text::xid8
) r ORDER BY r.xid, r.position LIMIT $6`

// replayGuardSQL is replaySQL for a cursor that comes from another incarnation of
// the server: rows younger than $9 come again, whatever their transaction IDs say.
const replayGuardSQL = `SELECT xid::text, position, CASE WHEN isfinite(inserted_at) THEN inserted_at END, item_id FROM (
  SELECT xid, position, inserted_at, item_id FROM notification_gateway.log
  WHERE user_key = $1 AND disconnect IS NULL AND (xid, position) > ($4::text::xid8, $5::bigint)
    AND NOT (xid = $7::text::xid8 AND position <= $8) AND xid >= $2::text::xid8
UNION ALL
  SELECT xid, position, inserted_at, item_id FROM notification_gateway.log
  WHERE user_key = $1 AND disconnect IS NULL AND (xid, position) > ($4::text::xid8, $5::bigint)
    AND NOT (xid = $7::text::xid8 AND position <= $8) AND xid = ANY ($3::text[]::xid8[]) AND xid < $2::text::xid8
UNION ALL
  SELECT xid, position, inserted_at, item_id FROM notification_gateway.log
  WHERE user_key = $1 AND disconnect IS NULL AND (xid, position) > ($4::text::xid8, $5::bigint)
    AND NOT (xid = $7::text::xid8 AND position <= $8) AND xid < $2::text::xid8 AND xid <> ALL ($3::text[]::xid8[]) AND inserted_at > $9
) r ORDER BY r.xid, r.position LIMIT $6`

// Replay brings a page of what the position from has not seen and the position
// to has, for one user, with full rows: of at most limit log rows, and no more
// bytes, of which one row may have more.
func (s *Store) Replay(ctx context.Context, userKey string, from, to Cursor, after Place, limit, bytes int) (Page, error) {
	done, err := s.replayTurns.take(ctx, userKey)
	if err != nil {
		return Page{}, fmt.Errorf("replay: %w", err)
	}
	defer done()
	entries, known := s.recent.replay(userKey, from, after, limit+1)
	source, alone := replayMemory, false
	if !known {
		source = replayLog
		entries, alone, err = s.replayEntries(ctx, userKey, from, to, after, limit+1)
		if ctx.Err() != nil { // what Postgres says of a statement that we cancelled is no news
			err = context.Cause(ctx)
		}
		if err != nil {
			return Page{}, fmt.Errorf("replay: %w", err)
		}
	}
	s.config.Metrics.replays.WithLabelValues(source).Inc()
	page := Page{More: len(entries) > limit || alone && len(entries) > 0}
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
		if alone || i+1 < len(entries) && entries[i+1].XID == e.XID { // the transaction goes on, or may
			after = to.inside(e.place(), from)
		}
		page.After = append(page.After, after)
	}
	if n := len(visible); n > 0 && !page.More {
		page.After[n-1] = to
	}
	if page.Notifications, err = s.load(ctx, visible, s.replays.within(bytes)); err != nil {
		return Page{}, fmt.Errorf("replay: %w", err)
	}
	if n := len(page.Notifications); n < len(visible) { // too large: the rest is another page
		page.After, page.Next, page.More = page.After[:n], visible[n-1].place(), true
	}
	return page, nil
}

// replayEntries reads at most limit log rows. Where one of them has an ID without
// a UTF-8 form, which a database of another encoding may hold, it reads the first
// row alone, and reports that there may be more. If that row is the one, it comes
// without its ID, and cannot be loaded.
func (s *Store) replayEntries(ctx context.Context, userKey string, from, to Cursor, after Place, limit int) (entries []Entry, alone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.replays.deadline)
	defer cancel()
	statement, place := replaySQL, from.place
	guarded := from.incarnation != to.incarnation
	if guarded {
		statement, place = replayGuardSQL, Place{} // its transaction ID may be another's by now
	}
	args := []any{
		userKey, strconv.FormatUint(from.snapshot.Xmax, 10), xids(from.snapshot.Xip),
		strconv.FormatUint(after.xid, 10), after.position, limit,
		strconv.FormatUint(place.xid, 10), place.position,
	}
	if guarded {
		args = append(args, from.at.Add(-guard))
	}
	if entries, err = s.logRows(ctx, userKey, statement, args); !pg.IsEncodingError(err) {
		return entries, false, err
	}
	args[5] = 1
	if entries, err = s.logRows(ctx, userKey, statement, args); pg.IsEncodingError(err) {
		entries, err = s.logRows(ctx, userKey, strings.Replace(statement, "item_id FROM (", "'' FROM (", 1), args)
	}
	return entries, true, err
}

// logRows asks replaySQL or replayGuardSQL.
func (s *Store) logRows(ctx context.Context, userKey, statement string, args []any) (entries []Entry, err error) {
	rows, err := s.query(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		e := Entry{UserKey: userKey}
		var xid string
		var insertedAt *time.Time
		if err := rows.Scan(&xid, &e.Position, &insertedAt, &e.ItemID); err != nil {
			return nil, err
		}
		if insertedAt != nil {
			e.InsertedAt = *insertedAt
		}
		if e.XID, err = strconv.ParseUint(xid, 10, 64); err != nil {
			return nil, fmt.Errorf("transaction ID: %w", err)
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

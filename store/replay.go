package store

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// replaySQL reads the log rows of some keys that the client's snapshot did not
// see, page by page in order of transaction ID. $1 keys, $2 xmax, $3 xip, ($4, $5)
// where the last page ended, $6 how many. Of transaction $7, which the snapshot
// did not see, the client has the rows up to position $8. Each row also has what
// must be known of the cursor, at the same moment: up to where the log has been
// pruned, and whether what the cursor claims is still there. Where the keys have no
// row, one comes with these two alone.
const (
	replaySQL  = replayHead + `, true AS kept` + replayFrom + replayPages + replayTail
	replayHead = `SELECT proof.pruned::text, proof.kept, r.xid::text, r.position, CASE WHEN isfinite(r.inserted_at) THEN r.inserted_at END, r.user_key, r.kind, r.item_id
FROM (SELECT notification_gateway.pruned_below() AS pruned`
	replayFrom = ` OFFSET 0) proof LEFT JOIN (
  SELECT u.* FROM unnest($1::text[]) k (key) CROSS JOIN LATERAL (
    (`
	replayPages = replayLogRows + `xid >= $2::text::xid8` + replayPage + `
  UNION ALL (` + replayLogRows + `xid = ANY ($3::text[]::xid8[]) AND xid < $2::text::xid8` + replayPage
	replayLogRows = `SELECT xid, position, inserted_at, user_key, item_id, '' AS kind FROM notification_gateway.log
    WHERE user_key = k.key COLLATE "C" AND disconnect IS NULL AND (xid, position) > ($4::text::xid8, $5::bigint)
      AND NOT (xid = $7::text::xid8 AND position <= $8) AND `
	replayPage = ` ORDER BY xid, position LIMIT $6)`
	replayTail = `
  ) u ORDER BY u.xid, u.position LIMIT $6
) r ON true ORDER BY r.xid, r.position`
)

// replayChangesSQL is replaySQL for a client that wants changes too.
const (
	replayChangesSQL = replayHead + `, true AS kept` + replayFrom + replayPages + replayChanges + replayTail
	replayChanges    = `
  UNION ALL (` + replayChangeRows + `xid >= $2::text::xid8` + replayPage + `
  UNION ALL (` + replayChangeRows + `xid = ANY ($3::text[]::xid8[]) AND xid < $2::text::xid8` + replayPage
	replayChangeRows = `SELECT xid, position, inserted_at, user_key, item_id, kind FROM notification_gateway.change
    WHERE user_key = k.key COLLATE "C" AND (xid, position) > ($4::text::xid8, $5::bigint)
      AND NOT (xid = $7::text::xid8 AND position <= $8) AND `
)

// replayAgainSQL is replaySQL for a cursor of another life of the server, and
// replayChangesAgainSQL replayChangesSQL. Rows of transactions from $9 on that were
// inserted after $10 come again. The claim of the cursor, which was made at $12,
// stands on a row of transaction $11.
const (
	replayAgainSQL        = replayHead + replayKept + replayFrom + replayPages + replayLogAgain + replayTail
	replayChangesAgainSQL = replayHead + replayKept + replayFrom + replayPages + replayLogAgain + replayChanges + replayChangesAgain + replayTail
	replayKept            = `, ` + keptCall + ` AS kept`
	replayLogAgain        = `
  UNION ALL (` + replayLogRows + replayedAgain
	replayChangesAgain = `
  UNION ALL (` + replayChangeRows + replayedAgain
	replayedAgain = `xid < $2::text::xid8 AND xid <> ALL ($3::text[]::xid8[])
      AND xid >= $9::text::xid8 AND inserted_at > $10::text::timestamptz` + replayPage
)

// keptCall asks whether the row on which a cursor's claim stands is still there.
const keptCall = "notification_gateway.kept($11::text::xid8, $12::text::timestamptz)"

// Reader is for whom a replay is.
type Reader struct {
	Keys    []string // the recipient's own first, then those of its groups and of everybody
	Changes bool     // what became of notifications is replayed too
}

// Replay brings a page of what the position from has not seen and the position
// to has, for one reader, with full rows: of at most limit log rows, and no more
// bytes, of which one row may have more. Its error wraps a *ResetError where the
// client must be told to reload: rows that it has not seen were pruned, or rows that
// it has were undone.
func (s *Store) Replay(ctx context.Context, reader Reader, from, to Cursor, after Place, limit, bytes int) (Page, error) {
	done, err := s.replayTurns.take(ctx, reader.Keys[0])
	if err != nil {
		return Page{}, fmt.Errorf("replay: %w", err)
	}
	defer done()
	entries, known := s.recent.replay(reader, from, after, limit+1)
	source, alone := replayMemory, false
	if !known {
		source = replayLog
		entries, alone, err = s.replayEntries(ctx, reader, from, to, after, limit+1)
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
	for i, e := range fold(entries[:rows]) {
		if e == (Entry{}) || !to.sees(e) { // what came after is brought by the live feed
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
func (s *Store) replayEntries(ctx context.Context, reader Reader, from, to Cursor, after Place, limit int) (entries []Entry, alone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.replays.deadline)
	defer cancel()
	server := s.server.Load()
	if server == nil {
		return nil, false, ErrNotReady
	}
	statement, place, more, err := replayStatement(server, from, reader.Changes && server.lives != nil)
	if err != nil {
		return nil, false, err
	}
	args := append([]any{
		reader.Keys, strconv.FormatUint(from.snapshot.Xmax, 10), xids(from.snapshot.Xip),
		strconv.FormatUint(after.xid, 10), after.position, limit,
		strconv.FormatUint(place.xid, 10), place.position,
	}, more...)
	read := func(statement string) ([]Entry, error) {
		return s.logRows(ctx, from, after, server.spell(statement), args)
	}
	if entries, err = read(statement); !pg.IsEncodingError(err) {
		return entries, false, err
	}
	args[5] = 1
	if entries, err = read(statement); pg.IsEncodingError(err) {
		entries, err = read(strings.Replace(statement, "r.item_id\n", "CASE WHEN r.xid IS NOT NULL THEN '' END\n", 1))
	}
	return entries, true, err
}

// replayStatement returns the statement that replays from a cursor, the place up
// to which the client has rows of a transaction that the cursor does not see, and
// what replayAgainSQL needs besides.
func replayStatement(server *server, from Cursor, changes bool) (statement string, place Place, more []any, err error) {
	o, noted := server.origin(from)
	var again again
	claim, made := from.claim()
	same, inAnother := replaySQL, replayAgainSQL
	if changes {
		same, inAnother = replayChangesSQL, replayChangesAgainSQL
	}
	switch {
	case o == originSame:
		return same, from.place, nil, nil
	case o == originUnknown:
		return "", Place{}, nil, &ResetError{Reason: ResetForeign}
	case o == originUnrecorded:
		statement = strings.Replace(inAnother, keptCall, "($11::text, $12::text) IS NOT NULL", 1) // nobody asks
		again.since = from.at.Add(-failoverWindow)
	case o == originCrashed && !made.IsZero(): // the row that proves it is looked for, and nothing comes again
		again.xid = noTransaction
	default:
		again.xid = noted
	}
	return cmp.Or(statement, inAnother), place, []any{
		strconv.FormatUint(again.xid, 10), again.sinceText(), strconv.FormatUint(claim, 10), timeText(made, "infinity"),
	}, nil
}

// logRows asks replaySQL or replayAgainSQL.
func (s *Store) logRows(ctx context.Context, from Cursor, after Place, statement string, args []any) (entries []Entry, err error) {
	rows, err := s.query(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var pruned, xid, userKey, kind, itemID *string
		var kept *bool
		var position *int64
		var insertedAt *time.Time
		if err := rows.Scan(&pruned, &kept, &xid, &position, &insertedAt, &userKey, &kind, &itemID); err != nil {
			return nil, err
		}
		if err := from.proven(after, pruned, kept); err != nil {
			return nil, err
		}
		if xid == nil {
			break // the keys have no row
		}
		e := Entry{UserKey: *userKey, Position: *position, ItemID: *itemID, Change: changeOf([]byte(*kind))}
		if insertedAt != nil {
			e.InsertedAt = *insertedAt
		}
		if e.XID, err = strconv.ParseUint(*xid, 10, 64); err != nil {
			return nil, fmt.Errorf("transaction ID: %w", err)
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// proven returns a *ResetError where a replay from c after a place proves nothing:
// rows that c does not see were pruned, or what it claims is not there. pruned and
// kept are columns of a replay's statement; they are null where the objects cannot
// tell.
func (c Cursor) proven(after Place, pruned *string, kept *bool) error {
	if pruned != nil {
		below, err := strconv.ParseUint(*pruned, 10, 64)
		if err != nil {
			return fmt.Errorf("transaction ID: %w", err)
		}
		if !c.covers(after, below) {
			return &ResetError{Reason: ResetExpired}
		}
	}
	if kept != nil && !*kept {
		return &ResetError{Reason: ResetForeign}
	}
	return nil
}

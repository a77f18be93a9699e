package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// pollSQL reads the server's snapshot, which table the log is, and what the
// previous snapshot did not see, in one statement and so at one moment. The
// rows not seen before are two index ranges: transactions that had not begun
// ($1 = xmax) and those that were running ($2 = xip). Of transaction $3, rows up
// to position $4 have been handed over already. Each range gives at most $5
// rows, the first in order: that of the column log.xid, because a bare xid would
// be the output column, a text, in which 1000 comes before 999.
const (
	pollSQL = `SELECT pg_current_snapshot()::text, clock_timestamp(), '', 'notification_gateway.log'::regclass::oid::bigint, '', '', ''
UNION ALL (` + pollColumns + `xid >= $1::text::xid8 ORDER BY log.xid, log.position LIMIT $5)
UNION ALL (` + pollColumns + `xid = ANY ($2::text[]::xid8[]) AND xid < $1::text::xid8 ORDER BY log.xid, log.position LIMIT $5)`
	pollColumns = `SELECT '', inserted_at, xid::text, position, user_key, item_id, coalesce(disconnect, '')
  FROM notification_gateway.log WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND `
	// pollGuardSQL follows in a new incarnation of the server, when transaction
	// IDs alone prove nothing: rows younger than $6 come again. Transactions
	// below $7 had ended by then, so that not the whole log must be looked at.
	pollGuardSQL = `
UNION ALL (` + pollColumns + `xid >= $7::text::xid8 AND xid < $1::text::xid8 AND xid <> ALL ($2::text[]::xid8[]) AND inserted_at > $6 ORDER BY log.xid, log.position LIMIT $5)`
)

// errMadeAnew ends a connection, so that the next one asks which installation
// this is.
var errMadeAnew = errors.New("the database objects were made anew")

// pollLimit bounds one batch, so that a bulk insert of a million rows costs
// neither the memory nor the deadline of one poll.
const pollLimit = 10_000

// poll brings what became visible since f.position, at most pollLimit rows;
// when there is more it leaves f.next behind. The first poll of a process
// brings nothing but the position to begin at.
func (f *Feed) poll(ctx context.Context, conn *pgx.Conn) (Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	began := time.Now()
	server := f.store.server.Load()
	first := f.position.IsZero()
	query, from := pollSQL, f.position.snapshot
	if first {
		from = Snapshot{Xmax: 1 << 63} // above every transaction ID: no row
	}
	args := []any{
		mode(f.bell.listens), strconv.FormatUint(from.Xmax, 10), xids(from.Xip),
		strconv.FormatUint(f.inside.xid, 10), f.inside.position, pollLimit + 1,
	}
	guarded := !first && f.position.incarnation != server.incarnation
	if guarded {
		young := f.position.at.Add(-guard)
		query, args = pollSQL+pollGuardSQL, append(args, young, strconv.FormatUint(f.marks.endedBy(young), 10))
	}
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return Batch{}, err
	}
	defer rows.Close()
	var batch Batch
	var now Snapshot
	var at time.Time
	var table int64
	for rows.Next() {
		var e Entry
		var snapshot, xid string
		if err := rows.Scan(&snapshot, &e.InsertedAt, &xid, &e.Position, &e.UserKey, &e.ItemID, &e.Disconnect); err != nil {
			return Batch{}, err
		}
		if snapshot != "" { // the first row, with the server's clock
			if now, err = parseSnapshot(snapshot); err != nil {
				return Batch{}, err
			}
			at, table = e.InsertedAt, e.Position
			continue
		}
		if e.XID, err = strconv.ParseUint(xid, 10, 64); err != nil {
			return Batch{}, fmt.Errorf("transaction ID: %w", err)
		}
		batch.Entries = append(batch.Entries, e)
		f.highest = max(f.highest, e.XID)
	}
	if err := rows.Err(); err != nil {
		return Batch{}, err
	}
	if f.table != 0 && f.table != table {
		return Batch{}, errMadeAnew
	}
	f.table = table
	f.store.clock.Store(at.UnixMicro()) // not the position's: a partial one is as old as the one before
	slices.SortFunc(batch.Entries, inLog)
	batch.Cursor = MakeCursor(server.install, server.incarnation, at, now.Clip(f.highest))
	f.next = Place{}
	if len(batch.Entries) > pollLimit {
		batch.Entries = batch.Entries[:pollLimit]
		last := batch.Entries[pollLimit-1]
		// The last transaction may go on: claim those before it, and remember
		// how far into it we are.
		batch.Cursor, batch.Partial = batch.Cursor.through(last.XID-1, f.position), true
		f.next = Place{last.XID, last.Position}
	}
	if guarded {
		batch.Entries = slices.DeleteFunc(batch.Entries, f.store.recent.has)
	}
	took := time.Since(began)
	if took < patienceMin/2 {
		f.patience = patienceMin
	}
	f.store.config.Metrics.pollSeconds.Observe(took.Seconds())
	return batch, nil
}

// helloSQL asks which server this is, how the view feed is typed, and for the
// highest transaction in the log.
const helloSQL = `SELECT h.install_id::text, h.incarnation,
  coalesce((SELECT xid FROM notification_gateway.log ORDER BY xid DESC LIMIT 1)::text, '0'),
  (SELECT CASE WHEN a.atttypid = 'bpchar'::regtype THEN 'bpchar' ELSE format_type(a.atttypid, NULL) END FROM pg_attribute a
    WHERE a.attrelid = to_regclass('notification_gateway.feed') AND a.attname = 'id'),
  (SELECT format_type(a.atttypid, NULL) FROM pg_attribute a WHERE a.attrelid = to_regclass('notification_gateway.feed') AND a.attname = 'user_key')
FROM notification_gateway.hello() h`

func (s *Store) hello(ctx context.Context, conn *pgx.Conn) (*server, uint64, error) {
	var install, incarnation, highest string
	var idType, keyType *string
	if err := conn.QueryRow(ctx, helloSQL).Scan(&install, &incarnation, &highest, &idType, &keyType); err != nil {
		return nil, 0, fmt.Errorf("greet the server: %w", err)
	}
	if idType == nil || keyType == nil {
		return nil, 0, errors.New("the view notification_gateway.feed with the columns id and user_key is missing: see gateway migrate --mapping")
	}
	known := &server{idType: *idType, keyType: *keyType}
	if _, err := hex.Decode(known.install[:], []byte(strings.ReplaceAll(install, "-", ""))); err != nil {
		return nil, 0, fmt.Errorf("installation ID: %w", err)
	}
	life, err := strconv.ParseUint(incarnation[:min(8, len(incarnation))], 16, 32)
	if err != nil {
		return nil, 0, fmt.Errorf("incarnation: %w", err)
	}
	known.incarnation = uint32(life)
	top, err := strconv.ParseUint(highest, 10, 64)
	if err != nil {
		return nil, 0, fmt.Errorf("highest transaction ID: %w", err)
	}
	return known, top, nil
}

// parseSnapshot reads the text form xmin:xmax:xip,xip,… of a pg_snapshot.
func parseSnapshot(text string) (Snapshot, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return Snapshot{}, fmt.Errorf("snapshot %q has not three parts", text)
	}
	xmax, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %q: %w", text, err)
	}
	s := Snapshot{Xmax: xmax}
	for xip := range strings.SplitSeq(parts[2], ",") {
		if xip == "" {
			continue
		}
		id, err := strconv.ParseUint(xip, 10, 64)
		if err != nil {
			return Snapshot{}, fmt.Errorf("snapshot %q: %w", text, err)
		}
		s.Xip = append(s.Xip, id)
	}
	slices.Sort(s.Xip)
	return s, nil
}

// xids writes transaction IDs for a text[] parameter that the statement casts.
func xids(ids []uint64) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = strconv.FormatUint(id, 10)
	}
	return out
}

package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
	"github.com/seed-64e334f9/notification-gateway/store/internal/view"
)

// pollSQL reads the server's snapshot, which table the log is and which view the
// feed, and what the previous snapshot did not see, in one statement and so at one
// moment. The rows not seen before are two index ranges: transactions that had not begun
// ($1 = xmax) and those that were running ($2 = xip). Of transaction $3, rows up
// to position $4 have been handed over already. Each range gives at most $5
// rows, the first in order. With $6 it asks how far the log has been pruned.
const (
	pollSQL  = pollHead + "\nUNION ALL " + pollRows
	pollHead = `SELECT pg_current_snapshot()::text, clock_timestamp(), coalesce(CASE WHEN $6::text::boolean THEN notification_gateway.pruned_below() END, '0'), ` + logTable + `,
  coalesce(to_regclass('notification_gateway.feed')::oid::text, ''), ` + nextDueCall + `, '', ''`
	pollRows = `(` + pollColumns + pollLog + `xid >= $1::text::xid8 ORDER BY xid, position LIMIT $5)
UNION ALL (` + pollColumns + pollLog + `xid = ANY ($2::text[]::xid8[]) AND xid < $1::text::xid8 ORDER BY xid, position LIMIT $5)` + pollChanges
	// pollChanges is pollRows for the table change. Its positions are of the
	// log's sequence, so that both have one order.
	pollChanges = `
UNION ALL (` + pollColumns + pollChange + `xid >= $1::text::xid8 ORDER BY xid, position LIMIT $5)
UNION ALL (` + pollColumns + pollChange + `xid = ANY ($2::text[]::xid8[]) AND xid < $1::text::xid8 ORDER BY xid, position LIMIT $5)`
	pollColumns = `SELECT '', inserted_at, xid, position, ` + pollTexts
	pollLog     = `, ''
  FROM notification_gateway.log WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND `
	pollChange = `, kind
  FROM (SELECT *, NULL::text AS disconnect FROM notification_gateway.change) change WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND `
	pollTexts = "user_key, item_id, coalesce(disconnect, '')"
	logTable  = "'notification_gateway.log'::regclass::oid::bigint"
	// nextDueCall is when the next notification is due, in milliseconds since 1970.
	nextDueCall = `coalesce((SELECT (extract(epoch FROM d.at) * 1000)::bigint::text FROM notification_gateway.due d WHERE isfinite(d.at) ORDER BY d.at LIMIT 1), '')`
	// pollGuardSQL follows where the position is of another life of the server, so
	// that transaction IDs alone prove nothing: rows that were inserted after $7
	// come again, of transactions from $8 on.
	pollGuardSQL     = pollGuardLog + pollGuardChanges
	pollGuardChanges = `
UNION ALL (` + pollColumns + pollChange + `xid >= $8::text::xid8 AND xid < $1::text::xid8 AND xid <> ALL ($2::text[]::xid8[]) AND inserted_at > $7::text::timestamptz ORDER BY xid, position LIMIT $5)`
	pollGuardLog = `
UNION ALL (` + pollColumns + pollLog + `xid >= $8::text::xid8 AND xid < $1::text::xid8 AND xid <> ALL ($2::text[]::xid8[]) AND inserted_at > $7::text::timestamptz ORDER BY xid, position LIMIT $5)`
)

// errMadeAnew ends a connection, so that the next one asks which installation
// this is.
var errMadeAnew = errors.New("the database objects were made anew")

// errMigrated is errMadeAnew where migrate has run under a connection that was made
// before. The poll that notices it is not handed over: what has been written to new
// tables was not visible to the poll before, so the next one brings all of it.
var errMigrated = errors.New("the database objects are of a newer version now")

// pollLimit bounds one batch, so that a bulk insert of a million rows costs
// neither the memory nor the deadline of one poll.
const pollLimit = 10_000

// pruneCheck is how long after a poll the next one asks how far the log has been
// pruned. What is pruned has been visible for longer, whatever clocks say, because
// it was visible when an earlier prune looked.
const pruneCheck = time.Second

const (
	pollName = "poll"              // of the prepared statement
	epoch    = 946_684_800_000_000 // 2000-01-01, from which Postgres counts, in µs from 1970-01-01
)

// poll brings what became visible since f.position, at most f.limit rows. The
// first poll of a process brings nothing but the position to begin at. With full
// the rows come with it as Load would bring them, if they can.
func (f *Feed) poll(ctx context.Context, conn *pgx.Conn, full bool) (Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	began := time.Now()
	server := f.store.server.Load()
	guarded := !f.position.IsZero() && f.position.incarnation != server.incarnation // see judge
	found, err := f.ask(ctx, conn.PgConn(), guarded, full)
	if err != nil {
		return Batch{}, err
	}
	if found.table == 0 {
		return Batch{}, errMigrated
	}
	if f.table != 0 && f.table != found.table {
		return Batch{}, errMadeAnew
	}
	f.table = found.table
	if f.view != "" && found.view != "" && f.view != found.view { // made anew, perhaps with keys of other types
		if _, err := f.store.relearn(ctx, f.patience); err != nil {
			return Batch{}, err
		}
		f.store.prefetch.broken = f.store.prefetch.statement != nil
	}
	f.view = cmp.Or(found.view, f.view)
	f.due.learn(found.nextDue, found.at)
	f.store.server.polled(found.at) // not the position's: a partial one is as old as the one before
	if !f.position.IsZero() && !f.position.covers(Place{}, found.prunedBelow) {
		f.reset = ResetExpired // it was away for longer than the log is kept
	}
	batch := Batch{Entries: found.entries, Reset: f.reset, snapshot: found.snapshot}
	if n := len(batch.Entries); n > 0 {
		f.highest = max(f.highest, batch.Entries[n-1].XID)
	}
	batch.Cursor = MakeCursor(server.install, server.incarnation, found.at, found.snapshot.Clip(f.highest))
	if limit := found.limit; len(batch.Entries) > limit || found.first && len(batch.Entries) > 0 {
		limit = min(limit, len(batch.Entries))
		batch.Entries = batch.Entries[:limit]
		// The last transaction may go on.
		batch.Cursor, batch.Partial = batch.Cursor.inside(batch.Entries[limit-1].place(), f.position), true
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

// ask sends the poll's statement: with full the one that brings rows in full,
// and when that fails the one that reads the log alone.
func (f *Feed) ask(ctx context.Context, conn *pgconn.PgConn, guarded, full bool) (out found, err error) {
	from, place := f.position.snapshot, f.position.place
	switch {
	case f.position.IsZero():
		from = Snapshot{Xmax: noTransaction}
	case guarded:
		place = Place{} // its transaction ID may be another's by now
	}
	check := []byte("f")
	if time.Since(f.polled) > pruneCheck {
		check = []byte("t")
	}
	args := [][]byte{decimal(from.Xmax), decimals(from.Xip), decimal(place.xid), decimal(place.position)}
	if full && f.tuned && !guarded && f.store.prefetch.enabled() {
		limit := min(f.limit, prefetchRows)
		out, err = f.askFull(ctx, conn, append(args, decimal(limit+1), check))
		if out.limit = limit; err == nil {
			return out, nil
		}
		if err := f.store.prefetch.failed(err); err != nil {
			return out, err
		}
	}
	args = append(args, decimal(f.limit+1), check)
	statement := pollSQL
	if guarded {
		args = append(args, []byte(f.again.sinceText()), decimal(f.again.xid))
		statement += pollGuardSQL
	}
	statement = f.store.server.Load().spell(statement)
	send := func(p *pgconn.Pipeline) { p.SendQueryParams(statement, args, nil, nil, binaryFormat) }
	if !guarded && f.tuned { // else the next statement may go to another server process
		if f.polling == nil {
			if f.polling, err = conn.Prepare(ctx, pollName, statement, nil); err != nil {
				return out, fmt.Errorf("prepare: %w", err)
			}
		}
		send = func(p *pgconn.Pipeline) { p.SendQueryStatement(f.polling, args, nil, binaryFormat) }
	}
	if out, err = f.exchange(ctx, conn, found{}, send); pg.IsEncodingError(err) {
		out, err = f.askFirst(ctx, conn, statement, args)
	}
	out.limit = f.limit
	slices.SortFunc(out.entries, inLog)
	return out, err
}

// askFirst asks for the first row alone, because there is one with a text that
// has no UTF-8 form, which a database of another encoding may hold. If it is that
// one it comes without the reason of a disconnect, or else without its ID, so that
// its user is told of a row that cannot be read, or else without both keys: no
// token names such a user.
func (f *Feed) askFirst(ctx context.Context, conn *pgconn.PgConn, statement string, args [][]byte) (out found, err error) {
	args = slices.Clone(args)
	args[4] = decimal(1)
	for _, texts := range []string{
		pollTexts, "user_key, item_id, CASE WHEN disconnect IS NULL THEN '' ELSE 'disconnected' END",
		"user_key, '', CASE WHEN disconnect IS NULL THEN '' ELSE 'disconnected' END", "'', '', ''",
	} {
		one := strings.ReplaceAll(statement, pollTexts, texts)
		out, err = f.exchange(ctx, conn, found{}, func(p *pgconn.Pipeline) { p.SendQueryParams(one, args, nil, nil, binaryFormat) })
		if !pg.IsEncodingError(err) {
			break
		}
		f.store.config.Logger.Warn("a log row has a text without a UTF-8 form", "err", err)
	}
	slices.SortFunc(out.entries, inLog)
	out.entries, out.first = out.entries[:min(1, len(out.entries))], true
	return out, err
}

// askFull asks for the log and the rows in full.
func (f *Feed) askFull(ctx context.Context, conn *pgconn.PgConn, args [][]byte) (found found, err error) {
	statement, err := f.store.prefetch.prepared(ctx, conn, f.store.server.Load())
	if err != nil {
		return found, err
	}
	began := time.Now()
	found, err = f.exchange(ctx, conn, f.store.prefetch.reuseBuffers(), func(p *pgconn.Pipeline) { p.SendQueryStatement(statement, args, nil, binaryFormat) })
	if err == nil {
		f.store.prefetch.pollTook(time.Since(began), len(found.rows))
		f.store.prefetch.keep(found)
	}
	return found, err
}

var binaryFormat = []int16{pgx.BinaryFormatCode} // of all columns

// exchange sends one statement and reads what a poll finds into room.
func (f *Feed) exchange(ctx context.Context, conn *pgconn.PgConn, room found, send func(*pgconn.Pipeline)) (found found, err error) {
	pipeline := conn.StartPipeline(ctx)
	defer func() { err = errors.Join(err, pipeline.Close()) }()
	if !f.tuned {
		pipeline.SendQueryParams(pg.PinSQL, nil, nil, nil, nil)
	}
	send(pipeline)
	if err := pipeline.Sync(); err != nil {
		return found, err
	}
	if !f.tuned {
		if err := skipResult(pipeline); err != nil {
			return found, err
		}
	}
	results, err := pipeline.GetResults()
	if err != nil {
		return found, err
	}
	result, ok := results.(*pgconn.ResultReader)
	if !ok {
		return found, fmt.Errorf("a %T where rows were expected", results)
	}
	return readFound(result, room)
}

// skipResult reads the result of PinSQL.
func skipResult(pipeline *pgconn.Pipeline) error {
	results, err := pipeline.GetResults()
	if err != nil {
		return err
	}
	if result, ok := results.(*pgconn.ResultReader); ok {
		_, err = result.Close()
	}
	return err
}

// found is the result of a poll.
type found struct {
	snapshot    Snapshot
	at          time.Time // the server's clock
	table       int64     // the log's OID; 0 where spell did not know that migrate has run
	prunedBelow uint64    // rows of transactions below it were removed; 0 where that was not asked
	view        string    // the view feed's, empty while there is none
	nextDue     time.Time // when the next notification is due, by the server's clock; zero: none waits
	first       bool      // the first row alone; there may be others
	limit       int       // rows that were asked for, but for one that shows whether there are more
	entries     []Entry   // in order of the log
	rows        []fullRow // of the entries; empty where only the log was read
	memory      []byte    // where the rows' data is
}

// pollRow is a row of a poll, in the binary format. The first row has the
// snapshot; its position is the log's OID, its userKey the view's, its itemID when
// the next notification is due, and its xid how far the log has been pruned. Its fields are good until the next row.
type pollRow struct {
	snapshot, at, xid, position, userKey, itemID, disconnect, change []byte

	data, checked []byte // of the view; absent where only the log was read
	full          bool   // they are not absent
}

// readPollRow names the columns of a row.
func readPollRow(columns [][]byte) (row pollRow, err error) {
	switch len(columns) {
	case 10:
		row.data, row.checked, row.full = columns[8], columns[9], true
	case 8:
	default:
		return row, fmt.Errorf("a row of %d columns", len(columns))
	}
	row.snapshot, row.at, row.xid, row.position = columns[0], columns[1], columns[2], columns[3]
	row.userKey, row.itemID, row.disconnect = columns[4], columns[5], columns[6]
	row.change = columns[7]
	if len(row.at) != 8 || len(row.xid) != 8 || len(row.position) != 8 {
		return row, errors.New("a row of another form")
	}
	return row, nil
}

func (r pollRow) moment() time.Time {
	return time.UnixMicro(epoch + int64(binary.BigEndian.Uint64(r.at))).UTC()
}

func (r pollRow) entry() Entry {
	keys := string(r.userKey) + string(r.itemID) // in memory together, because they are many
	return Entry{
		XID: binary.BigEndian.Uint64(r.xid), Position: int64(binary.BigEndian.Uint64(r.position)), InsertedAt: r.moment(),
		UserKey: keys[:len(r.userKey)], ItemID: keys[len(r.userKey):], Disconnect: string(r.disconnect), Change: changeOf(r.change),
	}
}

// readFound reads the rows of pollSQL or fullPollSQL.
func readFound(result *pgconn.ResultReader, room found) (out found, err error) {
	out.rows, out.memory = room.rows, room.memory
	for result.NextRow() {
		row, err := readPollRow(result.Values())
		if err != nil {
			return out, err
		}
		if len(row.snapshot) > 0 {
			if out.snapshot, err = parseSnapshot(string(row.snapshot)); err != nil {
				return out, err
			}
			out.at, out.table, out.view = row.moment(), int64(binary.BigEndian.Uint64(row.position)), string(row.userKey)
			out.prunedBelow = binary.BigEndian.Uint64(row.xid)
			if out.nextDue, err = parseDue(string(row.itemID)); err != nil {
				return out, err
			}
			continue
		}
		out.entries = append(out.entries, row.entry())
		if row.full {
			out.rows = append(out.rows, out.full(row.data, row.checked))
		}
	}
	_, err = result.Close()
	return out, err
}

// full reads what the view has for an entry.
func (f *found) full(data, checked []byte) fullRow {
	if data == nil { // it is not there, or too large
		return fullRow{}
	}
	row := fullRow{here: true}
	whole, err := view.AppendCompact(f.memory, data, view.IsTrue(checked))
	if err != nil {
		row.err = err
		return row
	}
	row.data = whole[len(f.memory):len(whole):len(whole)]
	f.memory = whole
	return row
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

// decimal writes a parameter in the text format.
func decimal[T int | int64 | uint64](n T) []byte { return fmt.Append(nil, n) }

// decimals writes an array in the text format.
func decimals(ids []uint64) []byte { return []byte("{" + strings.Join(xids(ids), ",") + "}") }

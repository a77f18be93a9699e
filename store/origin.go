package store

import (
	"slices"
	"strings"
	"time"
)

// origin says what the transaction IDs of a cursor prove on the server that the
// feed follows now.
//
// A cursor claims that every transaction up to its highest one had ended, apart
// from those that it names. The highest is always one whose row was in the log
// and visible. The claim holds as long as the server has the same history up to
// that transaction. After a crash, a promotion or a recovery to a point in time
// the server may lack what came last, and it hands those transaction IDs out
// again.
type origin uint8

const (
	// originSame: the transaction IDs of the cursor are those of the server. The
	// cursor is of this life; or of one that ended cleanly; or the server is known
	// to have its highest transaction, because a later one was noted in the same
	// life and has come through.
	originSame origin = iota
	// originCrashed: the server may lack the cursor's highest transaction, which can
	// be seen from its row: the row is missing, or was inserted after the cursor was
	// made. Both times are of one clock.
	originCrashed
	// originFailedOver is originCrashed on another timeline, or after the clock
	// was set back. The row may look older than the cursor and be another, because
	// two servers have two clocks. So every row of transactions from the life's
	// noted one on comes again. All that were handed out again are higher.
	originFailedOver
	// originUnrecorded: the cursor is older than the table life. Only the clock can
	// tell: rows that were inserted later than failoverWindow before it come again.
	originUnrecorded
	// originUnknown: the cursor is of a life that this database never had, because
	// it was restored to a moment before, or because the life was another server's
	// that had not been followed so far. The client must be told to reload.
	originUnknown
)

// origin judges a cursor of this installation. noted is the transaction from
// which on rows come again.
func (s *server) origin(c Cursor) (o origin, noted uint64) {
	if c.incarnation == s.incarnation {
		return originSame, 0
	}
	then, known := s.lives[c.incarnation]
	now := s.lives[s.incarnation]
	switch {
	case s.lives == nil, !known && c.at.Before(s.livesSince):
		return originUnrecorded, 0
	case !known:
		return originUnknown, 0
	case then.unlogged == now.unlogged, c.highest() <= then.xid:
		return originSame, 0
	case then.timeline == now.timeline && !now.began.Before(c.at):
		return originCrashed, then.xid
	}
	return originFailedOver, then.xid
}

// adopt returns c as a position of the server's present life, where its
// transaction IDs are the same ones.
func (s *server) adopt(c Cursor) Cursor {
	if o, _ := s.origin(c); o == originSame {
		c.incarnation = s.incarnation
	}
	return c
}

// highest is the highest transaction that c claims to know rows of.
func (c Cursor) highest() uint64 { return max(c.snapshot.Xmax-1, c.place.xid) }

// again says which rows a poll or a replay brings although a cursor of another
// life has seen their transaction IDs: those inserted after since of transactions
// from xid on. The zero again brings none.
type again struct {
	since time.Time // zero: whenever they were inserted
	xid   uint64
}

// noTransaction is above every transaction ID.
const noTransaction = 1 << 63

// failoverWindow is how far the clock of a promoted standby may be behind that
// of its primary (cursorAhead), and how far the standby itself may have been.
const failoverWindow = cursorAhead + 60*time.Second

// sinceText is the moment as a parameter.
func (a again) sinceText() string { return timeText(a.since, "-infinity") }

// timeText is a moment as a parameter, and none where it is zero.
func timeText(at time.Time, none string) string {
	if at.IsZero() {
		return none
	}
	return at.Format(time.RFC3339Nano)
}

// claim is the transaction on whose row the highest claim of c stands, and by
// when the row was in the log. That moment is zero where c is inside a transaction:
// its time is that of an earlier position, and proves nothing of the row.
func (c Cursor) claim() (xid uint64, by time.Time) {
	if c.place != (Place{}) {
		return c.highest(), time.Time{}
	}
	return c.highest(), c.at
}

// prunedCall asks how far the log has been pruned.
const prunedCall = "notification_gateway.pruned_below()"

// spell writes a statement for the objects that the server has: those of before
// the table life do not know how far the log was pruned, nor changes. A poll of
// such objects brings no table of the log once migrate has run.
func (s *server) spell(statement string) string {
	if s.lives != nil {
		return statement
	}
	return strings.NewReplacer(prunedCall, "NULL::xid8", pollChanges, "", pollGuardChanges, "", nextDueCall, "''",
		logTable, "CASE WHEN to_regprocedure('notification_gateway.history()') IS NULL THEN "+logTable+" ELSE 0 END").Replace(statement)
}

// covers reports whether c sees every transaction below a limit that is at or
// after a place. Rows before the place have been read.
func (c Cursor) covers(after Place, limit uint64) bool {
	if limit <= after.xid {
		return true
	}
	first, _ := slices.BinarySearch(c.snapshot.Xip, after.xid)
	return c.snapshot.Xmax >= limit && (first == len(c.snapshot.Xip) || c.snapshot.Xip[first] >= limit)
}

package store

import (
	"cmp"
	"slices"
	"time"
)

// Entry is one captured row of notification_gateway.log, or of change: that a
// notification was inserted, or changed, for whom, and in which transaction. It
// holds no payload; Load brings that, and only for those who are connected.
type Entry struct {
	XID        uint64    // top-level transaction ID (xid8) of the insert
	Position   int64     // order inside a transaction only; says nothing of commit order
	InsertedAt time.Time // the database server's clock at the insert
	UserKey    string    // recipient, as text; empty when the CRM's column was null
	ItemID     string    // the notification's ID, as text
	Disconnect string    // when not empty, no notification but an order to end the user's streams: the reason
	Change     Change    // when not empty, no notification but what became of one
}

// inLog compares entries by their order in the log, which is that of batches
// and replays.
func inLog(a, b Entry) int {
	return cmp.Or(cmp.Compare(a.XID, b.XID), cmp.Compare(a.Position, b.Position))
}

// place is where e stands.
func (e Entry) place() Place { return Place{e.XID, e.Position} }

// Place is where e stands: a page that begins there begins after e.
func (e Entry) Place() Place { return e.place() }

// Before is the place after which e is the next row.
func (e Entry) Before() Place { return Place{e.XID, e.Position - 1} }

// Batch is everything that became visible between two polls of the feed, in
// order of transaction ID and position. Cursor is the position after it. In a
// Partial batch the last transaction goes on in the next one, and Cursor is
// inside it. Where Reset is set, rows between the batch before and this one can not be known, or rows that clients have were undone.
type Batch struct {
	Entries []Entry
	Cursor  Cursor
	Partial bool
	Reset   string // why every client must be told to reload, see ResetReasons; mostly empty

	snapshot Snapshot // of the poll, not clipped
}

// Notification is an Entry with its full row, as Load or Replay found it.
//
// There are three outcomes. Data is the row. Data and Err are nil when the row is
// gone or names another recipient by now, and the recipient gets nothing. Err says
// why a row that exists could not be read, and the recipient gets a reset.
type Notification struct {
	Entry
	Data []byte // one line of JSON, never a raw CR or LF; never modified; of Load, good until its batch has been delivered
	Err  error
}

// Page is one page of a replay. After has, for each notification, the position
// that a client which has read up to it may claim. It may lie inside a transaction,
// so that a client whose connection breaks again and again still gets ahead. When
// More is set, ask again with Next.
type Page struct {
	Notifications []Notification
	After         []Cursor
	Next          Place
	More          bool
}

// Place is a point in the order of the log, just after a row. Inside a
// transaction positions grow, because one session made all its rows. The zero
// Place is before every row.
type Place struct {
	xid      uint64
	position int64
}

// Snapshot is a pg_snapshot: which transaction IDs had ended when it was taken
// (https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT-PARTS).
type Snapshot struct {
	Xmax uint64   // no transaction ID at or above Xmax had ended
	Xip  []uint64 // below Xmax, these were still running; ascending
}

// Sees reports whether a committed transaction is visible in the snapshot.
func (s Snapshot) Sees(xid uint64) bool {
	if xid >= s.Xmax {
		return false
	}
	_, running := slices.BinarySearch(s.Xip, xid)
	return !running
}

// oldest returns a transaction ID below which every transaction had ended.
func (s Snapshot) oldest() uint64 {
	if len(s.Xip) > 0 {
		return s.Xip[0]
	}
	return s.Xmax
}

// Clip forgets every transaction above highest. After a crash Postgres hands
// out again the IDs of transactions that never reached the disk, so a snapshot
// may claim no more than the log rows that proved it: clipping to the highest
// committed log row costs nothing and makes a re-used ID look new.
func (s Snapshot) Clip(highest uint64) Snapshot {
	if s.Xmax <= highest+1 {
		return s
	}
	end, _ := slices.BinarySearch(s.Xip, highest+1)
	return Snapshot{Xmax: highest + 1, Xip: s.Xip[:end:end]}
}

// includes reports whether everything that o sees is seen by s.
func (s Snapshot) includes(o Snapshot) bool {
	return s.Xmax >= o.Xmax && !slices.ContainsFunc(s.Xip, o.Sees)
}

// with returns the snapshot that sees what s or o does.
func (s Snapshot) with(o Snapshot) Snapshot {
	if s.Xmax < o.Xmax {
		s, o = o, s
	}
	s.Xip = slices.DeleteFunc(slices.Clone(s.Xip), o.Sees)
	return s
}

func (s Snapshot) equal(o Snapshot) bool {
	return s.Xmax == o.Xmax && slices.Equal(s.Xip, o.Xip)
}

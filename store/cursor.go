package store

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

const (
	cursorVersion  = 1
	cursorInside   = 2   // the version of a cursor with a place inside a transaction
	cursorMAC      = 8   // bytes of HMAC-SHA256 that a cursor carries
	cursorXip      = 500 // running transactions a cursor names; past that it claims less
	cursorMaxChars = 8192
	cursorAhead    = 5 * time.Minute // clocks of two Postgres servers may differ by this much
)

// Cursor is a position in Postgres's commit order: which transactions had
// ended, and how far into one more it is, on which installation of the database
// objects, in which incarnation of the server. It is opaque to everybody but
// this package; String is what clients keep as their last event ID
// (https://html.spec.whatwg.org/multipage/server-sent-events.html#concept-event-stream-last-event-id).
// The zero Cursor is no position at all.
type Cursor struct {
	install     [16]byte // the installation's ID; the text form carries four bytes of it and keys its MAC with the whole
	incarnation uint32   // changes when the server restarts, crashes or is promoted
	at          time.Time
	snapshot    Snapshot
	place       Place // of this transaction, which the snapshot does not see, the rows up to there are known too; zero: of none
}

// ResetError says why a last event ID proves nothing about what its client has
// seen. Reason is one of ResetReasons. The client is told with a reset event.
type ResetError struct{ Reason string }

func (e *ResetError) Error() string { return "last event ID is " + e.Reason }

// The reasons of a ResetError: what the last event ID is.
const (
	ResetMalformed = "malformed" // no text of ours
	ResetForeign   = "foreign"   // of another installation
	ResetForged    = "forged"    // not made by a gateway
	ResetExpired   = "expired"   // older than the log is kept
	ResetFuture    = "future"    // of a time that has not come
)

// ResetReasons returns the closed set of ResetError.Reason.
func ResetReasons() []string {
	return []string{ResetMalformed, ResetForeign, ResetForged, ResetExpired, ResetFuture}
}

// MakeCursor builds a cursor from its parts: the installation's ID, the
// server's incarnation, the server's clock and its snapshot.
func MakeCursor(install [16]byte, incarnation uint32, at time.Time, snapshot Snapshot) Cursor {
	return Cursor{install: install, incarnation: incarnation, at: at, snapshot: snapshot}
}

// IsZero reports whether c is no position at all.
func (c Cursor) IsZero() bool { return c.snapshot.Xmax == 0 && c.at.IsZero() }

// Moved reports whether a client that was last told since should be told c:
// something was committed between them, or since is older by refresh, so that
// the cursor of an idle stream does not outlive the retention.
func (c Cursor) Moved(since Cursor, refresh time.Duration) bool {
	return !c.sameLife(since) || c.place != since.place ||
		!c.snapshot.equal(since.snapshot) || c.at.Sub(since.at) > refresh
}

// sees reports whether a row of the same incarnation is known at c.
func (c Cursor) sees(e Entry) bool {
	return c.snapshot.Sees(e.XID) || e.XID == c.place.xid && e.Position <= c.place.position
}

// sameLife reports whether c and o are positions in the same incarnation of
// the same installation, so that their transaction IDs can be compared.
func (c Cursor) sameLife(o Cursor) bool {
	return c.install == o.install && c.incarnation == o.incarnation
}

// SameInstallation reports whether c and o are positions of the same
// installation of the database objects. Between two installations nothing can
// be known of what was missed.
func (c Cursor) SameInstallation(o Cursor) bool { return c.install == o.install }

// Stale returns a cursor that every replica answers with a reset, whatever
// happens meanwhile. A stream carries it until its client has been told that
// it must reload, so that a connection which breaks early cannot hide it.
func (c Cursor) Stale() Cursor {
	return Cursor{install: c.install, incarnation: c.incarnation, at: time.UnixMicro(1), snapshot: Snapshot{Xmax: 1}}
}

// through returns the cursor of a client that was at since and has now read every
// row of c up to and including transaction xid: the union of what the two claim. So
// a transaction that commits late does not bring again what came after it. The
// cursor is as old as since, because rows that it does not claim have been missing
// since then, and that age decides when they may be pruned.
func (c Cursor) through(xid uint64, since Cursor) Cursor {
	c.snapshot, c.at = c.snapshot.Clip(xid), since.at
	if c.place.xid > xid {
		c.place = Place{}
	}
	if c.sameLife(since) {
		c.snapshot = c.snapshot.with(since.snapshot)
		if c.snapshot.Sees(c.place.xid) { // or there is none
			c.place = since.place
		}
		if c.snapshot.Sees(c.place.xid) {
			c.place = Place{}
		}
	}
	return c
}

// inside is through for a part of a transaction: everything below it is known,
// and its own rows up to place.
func (c Cursor) inside(place Place, since Cursor) Cursor {
	c = c.through(place.xid-1, since)
	c.place = place
	return c
}

// Older reports whether o is older than c by more than d. What came between
// them may have been pruned when d is the retention.
func (c Cursor) Older(o Cursor, d time.Duration) bool { return c.at.Sub(o.at) > d }

// String returns the cursor as unpadded base64url (RFC 4648 section 5): some 36
// characters with nothing in flight, about 1,400 at the most. One without a
// place is written as it was before there were places, so that replicas of both
// kinds understand it.
func (c Cursor) String() string {
	if c.IsZero() {
		return ""
	}
	snapshot := c.snapshot
	if len(snapshot.Xip) > cursorXip {
		snapshot = Snapshot{Xmax: snapshot.Xip[cursorXip], Xip: snapshot.Xip[:cursorXip]}
	}
	b := make([]byte, 0, 64)
	version := byte(cursorVersion)
	if c.place != (Place{}) {
		version = cursorInside
	}
	b = append(b, version)
	b = append(b, c.install[:4]...)
	b = binary.BigEndian.AppendUint32(b, c.incarnation)
	b = binary.AppendUvarint(b, uint64(c.at.UnixMicro()))
	b = binary.AppendUvarint(b, snapshot.Xmax)
	if version == cursorInside {
		b = binary.AppendUvarint(b, c.place.xid)
		b = binary.AppendUvarint(b, uint64(c.place.position))
	}
	previous := snapshot.Xmax
	for i := len(snapshot.Xip) - 1; i >= 0; i-- {
		b = binary.AppendUvarint(b, previous-snapshot.Xip[i])
		previous = snapshot.Xip[i]
	}
	b = append(b, c.mac(b)...)
	return base64.RawURLEncoding.EncodeToString(b)
}

func (c Cursor) mac(body []byte) []byte {
	h := hmac.New(sha256.New, append([]byte("notification_gateway cursor "), c.install[:]...))
	h.Write(body)
	return h.Sum(nil)[:cursorMAC]
}

// parseCursor reads a cursor of the given installation. Its error is a
// *ResetError, and wraps what exactly was wrong with a malformed one.
func parseCursor(text string, install [16]byte) (Cursor, error) {
	malformed := func(what string) (Cursor, error) {
		return Cursor{}, fmt.Errorf("%s: %w", what, &ResetError{Reason: ResetMalformed})
	}
	if len(text) > cursorMaxChars {
		return malformed("too long")
	}
	if strings.ContainsAny(text, "\r\n") { // which the decoder passes over, and RFC 4648 section 3.3 does not
		return malformed("broken over lines")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < 1+4+4+1+1+cursorMAC || b[0] != cursorVersion && b[0] != cursorInside {
		return malformed("no cursor of this version")
	}
	if [4]byte(b[1:5]) != [4]byte(install[:4]) {
		return Cursor{}, &ResetError{Reason: ResetForeign}
	}
	body, mac := b[:len(b)-cursorMAC], b[len(b)-cursorMAC:]
	c := Cursor{install: install, incarnation: binary.BigEndian.Uint32(b[5:9])}
	if !hmac.Equal(mac, c.mac(body)) {
		return Cursor{}, &ResetError{Reason: ResetForged}
	}
	rest := body[9:]
	next := func() (uint64, bool) {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return 0, false
		}
		rest = rest[n:]
		return v, true
	}
	at, ok1 := next()
	xmax, ok2 := next()
	if !ok1 || !ok2 || xmax == 0 {
		return malformed("cut short")
	}
	c.at, c.snapshot.Xmax = time.UnixMicro(int64(at)).UTC(), xmax
	if b[0] == cursorInside {
		xid, ok1 := next()
		position, ok2 := next()
		if !ok1 || !ok2 {
			return malformed("cut short")
		}
		c.place = Place{xid, int64(position)}
	}
	for previous := xmax; len(rest) > 0; {
		delta, ok := next()
		if !ok || delta == 0 || delta >= previous {
			return malformed("bad transaction ID")
		}
		previous -= delta
		c.snapshot.Xip = append(c.snapshot.Xip, previous)
	}
	for i, j := 0, len(c.snapshot.Xip)-1; i < j; i, j = i+1, j-1 {
		c.snapshot.Xip[i], c.snapshot.Xip[j] = c.snapshot.Xip[j], c.snapshot.Xip[i]
	}
	if b[0] == cursorInside && c.snapshot.Sees(c.place.xid) {
		return malformed("inside a transaction that has ended")
	}
	return c, nil
}

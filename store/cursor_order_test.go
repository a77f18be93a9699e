package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// randomCursor makes a cursor over the transactions 1 to 12, with some of them
// running and sometimes a place inside one of those.
func randomCursor(random *rand.Rand) Cursor {
	c := Cursor{install: [16]byte{1}, incarnation: 1, at: time.Unix(int64(random.IntN(100)), 0), snapshot: Snapshot{Xmax: 1 + random.Uint64N(12)}}
	for xid := uint64(1); xid < c.snapshot.Xmax; xid++ {
		if random.IntN(4) == 0 {
			c.snapshot.Xip = append(c.snapshot.Xip, xid)
		}
	}
	if unseen := 1 + random.Uint64N(12); random.IntN(2) == 0 && !c.snapshot.Sees(unseen) {
		c.place = Place{unseen, 1 + random.Int64N(3)}
	}
	return c
}

// seen lists the rows that a cursor sees, of transactions with three rows each.
func seen(c Cursor) []string {
	var rows []string
	for xid := uint64(1); xid <= 14; xid++ {
		for position := int64(1); position <= 3; position++ {
			if c.Sees(Entry{XID: xid, Position: position}) {
				rows = append(rows, fmt.Sprint(xid, "/", position))
			}
		}
	}
	return rows
}

func hasAll(all, some []string) bool {
	return !slices.ContainsFunc(some, func(row string) bool { return !slices.Contains(all, row) })
}

// A client whose position is taken back gets rows again that it had; one whose
// position claims too much never gets them. So a union must see everything that
// its first cursor sees and nothing that neither does.
func TestUnionOfCursors(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		a, b := randomCursor(random), randomCursor(random)
		both, one, other := a.Union(b), seen(a), seen(b)
		switch {
		case !hasAll(seen(both), one):
			t.Fatalf("the union of %+v and %+v is %+v, which lost rows of the first", a, b, both)
		case !hasAll(append(one, other...), seen(both)):
			t.Fatalf("the union of %+v and %+v is %+v, which claims rows of neither", a, b, both)
		case !hasAll(seen(both), other) && (b.place == Place{} || a.place == Place{}):
			t.Fatalf("the union of %+v and %+v is %+v, which lost rows of the second", a, b, both)
		case both.at.Before(a.at) || both.at.Before(b.at):
			t.Fatalf("the union of %v and %v is of %v", a.at, b.at, both.at)
		}
		if _, err := parseCursor(both.String(), a.install); err != nil {
			t.Fatalf("the union of %+v and %+v cannot be read back: %v", a, b, err)
		}
	}
}

// A client that is held to be behind although it is ahead gets rows again. One
// that is held to be ahead although it is not only costs a comparison.
func TestAheadCursors(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		a, b := randomCursor(random), randomCursor(random)
		if !a.Ahead(b) && !hasAll(seen(b), seen(a)) {
			t.Fatalf("%+v is not ahead of %+v, and has rows that the other has not", a, b)
		}
		if a.Ahead(a) || a.Ahead(a.Union(b)) {
			t.Fatalf("%+v is ahead of itself or of its union with %+v", a, b)
		}
	}
	a, b := randomCursor(random), randomCursor(random)
	b.incarnation = 2
	if a.Ahead(b) || b.Ahead(a) || a.Union(b).String() != a.String() || a.SameIncarnation(b) {
		t.Error("positions of different incarnations were compared")
	}
}

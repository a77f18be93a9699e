package store

import (
	"testing"
	"time"
)

// A cursor that is believed although its transaction IDs were handed out again
// hides rows without a word; one that is doubted although they were not brings
// rows again.
func TestOrigin(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_000_000, 0)
	s := &server{identity: identity{incarnation: 5}, livesSince: at.Add(-time.Hour), lives: map[uint32]life{
		1: {unlogged: "a", timeline: 1, xid: 100},
		2: {unlogged: "b", timeline: 1, xid: 200},
		3: {unlogged: "c", timeline: 2, xid: 300},
		4: {unlogged: "d", timeline: 2, xid: 400},
		5: {unlogged: "d", timeline: 2, xid: 500, began: at},
	}}
	cursor := func(incarnation uint32, highest uint64, at time.Time) Cursor {
		return Cursor{incarnation: incarnation, at: at, snapshot: Snapshot{Xmax: highest + 1}}
	}
	before := at.Add(-time.Minute)
	for name, test := range map[string]struct {
		cursor Cursor
		origin origin
		noted  uint64
	}{
		"of this life":                           {cursor(5, 900, before), originSame, 0},
		"of a life that ended cleanly":           {cursor(4, 450, before), originSame, 0},
		"not above what was noted":               {cursor(1, 100, before), originSame, 0},
		"of before a crash":                      {cursor(3, 350, before), originCrashed, 300},
		"of before a crash, by a clock set back": {cursor(3, 350, at.Add(time.Second)), originFailedOver, 300},
		"of another timeline":                    {cursor(2, 250, before), originFailedOver, 200},
		"of a life that was never here":          {cursor(9, 50, before), originUnknown, 0},
		"of before lives were recorded":          {cursor(9, 50, at.Add(-2*time.Hour)), originUnrecorded, 0},
	} {
		if o, noted := s.origin(test.cursor); o != test.origin || noted != test.noted {
			t.Errorf("%s: origin %d from %d, want %d from %d", name, o, noted, test.origin, test.noted)
		}
	}
	inside := cursor(3, 300, before)
	inside.place = Place{xid: 310, position: 1}
	if o, _ := s.origin(inside); o != originCrashed {
		t.Errorf("inside a transaction above what was noted: origin %d", o)
	}
	if o, _ := (&server{}).origin(cursor(4, 1, at)); o != originUnrecorded {
		t.Errorf("with objects of before there were lives: origin %d", o)
	}
	if c := s.adopt(cursor(4, 450, before)); c.incarnation != 5 {
		t.Error("a clean restart makes cursors of another incarnation")
	}
	if c := s.adopt(cursor(3, 350, before)); c.incarnation != 3 {
		t.Error("a crash is not noticed")
	}
}

// A position that does not cover what was pruned has lost rows; one that does
// must not be reset for nothing.
func TestCoversWhatWasPruned(t *testing.T) {
	t.Parallel()
	c := Cursor{snapshot: Snapshot{Xmax: 100, Xip: []uint64{50, 70}}}
	for _, test := range []struct {
		after, below uint64
		want         bool
	}{
		{0, 0, true},
		{0, 50, true},
		{0, 51, false},
		{0, 100, false},
		{0, 101, false},
		{51, 60, true},
		{51, 70, true},
		{51, 71, false},
		{71, 100, true},
		{71, 101, false},
		{101, 101, true},
		{50, 51, false}, // rows of 50 may be left
	} {
		if got := c.covers(Place{xid: test.after}, test.below); got != test.want {
			t.Errorf("after %d, pruned below %d: %t, want %t", test.after, test.below, got, test.want)
		}
	}
}

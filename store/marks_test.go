package store

import (
	"testing"
	"time"
)

// A bound that is too high hides rows after a failover; without one the whole
// log is read before the feed is connected again.
func TestMarks(t *testing.T) {
	begin := time.Unix(1_000_000, 0)
	var m marks
	for second := range 1000 {
		c := Cursor{at: begin.Add(time.Duration(second) * time.Second), snapshot: Snapshot{Xmax: uint64(1000 + second)}}
		if second%3 == 0 { // one began half a second before
			c.snapshot.Xip = []uint64{uint64(1000+second) - 1}
		}
		m.add(c)
		if len(m) > 9 {
			t.Fatalf("%d marks are kept", len(m))
		}
		then := c.at.Add(-guard)
		got := m.endedBy(then)
		switch highest := uint64(1000 + second - 60); {
		case second < 60 && got != 0:
			t.Fatalf("second %d: %d, though nothing is known of a minute ago", second, got)
		case second >= 60 && (got > highest || got < highest-12):
			t.Fatalf("second %d: %d, want at most %d and little less", second, got, highest)
		}
	}
}

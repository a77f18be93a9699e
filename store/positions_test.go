package store

import (
	"testing"
	"time"
)

// A bound that is too high hides rows after a failover; without one the whole
// log is read before the feed is connected again.
func TestPositions(t *testing.T) {
	const window = int(failoverWindow / time.Second)
	begin := time.Unix(1_000_000, 0)
	var p positions
	for second := range 1000 {
		c := Cursor{at: begin.Add(time.Duration(second) * time.Second), snapshot: Snapshot{Xmax: uint64(1000 + second)}}
		if second%3 == 0 { // one began half a second before
			c.snapshot.Xip = []uint64{uint64(1000+second) - 1}
		}
		p.add(c)
		if len(p) > 38 {
			t.Fatalf("%d positions are kept", len(p))
		}
		then := c.at.Add(-failoverWindow)
		got := p.endedBy(then)
		switch highest := uint64(1000 + second - window); {
		case second < window && got != 0:
			t.Fatalf("second %d: %d, though nothing is known of six minutes ago", second, got)
		case second >= window && (got > highest || got < highest-12):
			t.Fatalf("second %d: %d, want at most %d and little less", second, got, highest)
		}
	}
}

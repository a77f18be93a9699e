package report

import (
	"testing"
)

// What pgbench prints is for people; a line that is no progress must be no rate
// of 0.
func TestPgbenchRate(t *testing.T) {
	if got, ok := pgbenchRate("progress: 2.0 s, 25000.5 tps, lat 0.3 ms stddev 0.1, 0 failed"); !ok || got != 25000.5 {
		t.Errorf("got %v, %t", got, ok)
	}
	for _, other := range []string{"", "pgbench (15.18)", "progress: 1.0 s, - tps", "connection failed"} {
		if got, ok := pgbenchRate(other); ok {
			t.Errorf("%q: got %v", other, got)
		}
	}
}

package main

import "testing"

// What pgbench prints is for people; a line that is not found must be no rate
// of 0.
func TestPgbenchRate(t *testing.T) {
	const progress = "pgbench (15.18)\nprogress: 1.0 s, 20000.0 tps, lat 0.4 ms stddev 0.1, 0 failed\n" +
		"progress: 2.0 s, 25000.0 tps, lat 0.3 ms stddev 0.1, 0 failed\nprogress: 3.0 s, 26000.0 tps, lat 0.3 ms stddev 0.1, 0 failed\n"
	if got, err := pgbenchRate(progress); err != nil || got != 25500 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "progress: 1.0 s, 5 tps", "connection failed"} {
		if got, err := pgbenchRate(bad); err == nil {
			t.Errorf("%q: got %v", bad, got)
		}
	}
}

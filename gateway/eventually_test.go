package gateway

import (
	"testing"
	"time"
)

// eventually waits until a condition holds, and says what did not come to be.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("after 30 s still not: %s", what)
		}
	}
}

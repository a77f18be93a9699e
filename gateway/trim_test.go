package gateway

import "testing"

// What a storm of connects took must be given back when it is over, not while
// it goes on, and not for every single stream.
func TestHeapTrimmer(t *testing.T) {
	var trimmer heapTrimmer
	changes := uint64(0)
	for i, step := range []struct {
		came uint64
		want bool
	}{{10, false}, {0, false}, {600, false}, {500, false}, {9, true}, {0, false}, {0, false}, {20_000, false}, {150, true}, {999, false}, {0, false}} {
		changes += step.came
		if got := trimmer.tick(changes); got != step.want {
			t.Errorf("step %d: memory given back: %t, want %t", i, got, step.want)
		}
	}
}

package report

import (
	"math"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
)

// A tenth of the streams for a tenth of the time cannot meet what the whole
// should; that nothing is lost holds at any scale.
func TestQuickReportJudgesNoTarget(t *testing.T) {
	r := Results{quick: true}
	r.check("memory", "9 KB", "", "≤ 3 KB", false)
	r.expect("rows", "1", "2", false)
	if l := r.Lines[0]; l.Met != nil || l.Target != "≤ 3 KB at scale 1" {
		t.Errorf("%+v", l)
	}
	if l := r.Lines[1]; l.Met == nil || *l.Met {
		t.Errorf("%+v", l)
	}
}

// A wrong exponent would call a quadratic cost linear.
func TestExponent(t *testing.T) {
	x := []float64{1000, 5000, 10_000, 18_000}
	for _, want := range []float64{0, 1, 2} {
		var y []float64
		for _, v := range x {
			y = append(y, 3*math.Pow(v, want))
		}
		if got := exponent(x, y); math.Abs(got-want) > 1e-9 {
			t.Errorf("exponent %.3f, want %.0f", got, want)
		}
	}
}

// A bucket that comes a little early must not be taken for a burst, and a burst
// must not be hidden by the slots that it falls into.
func TestBusiest(t *testing.T) {
	spread, early, twice := make([]int32, 100), make([]int32, 100), make([]int32, 100)
	for i := range spread {
		spread[i] = 5
	}
	for i := 0; i < 100; i += swarm.PingSlots {
		early[max(0, i-i/swarm.PingSlots%2)] = 100 // every other one 50 ms early
	}
	twice[30], twice[35] = 150, 150
	for _, test := range []struct {
		slots []int32
		want  float64
	}{{spread, 90}, {early, 100}, {twice, 300}, {nil, 0}} {
		if got := busiest(test.slots); got != test.want {
			t.Errorf("busiest %.0f, want %.0f", got, test.want)
		}
	}
}

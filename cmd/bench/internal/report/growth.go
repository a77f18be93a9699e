package report

import (
	"context"
	"fmt"
	"math"
	"time"
)

// growth shows how costs grow with the number of streams, as the exponent of
// the power that fits best: 1 is linear.
func (r *runner) growth(ctx context.Context, found *Results) error {
	var all []holding
	for _, n := range []int{1000, 5000, 10_000, 18_000} {
		h, err := r.hold(ctx, r.most(n))
		if err != nil {
			return err
		}
		all = append(all, h)
	}
	for _, way := range []struct {
		what string
		of   func(holding) float64
		show func(float64) string
	}{
		{"resident memory", func(h holding) float64 { return h.rss * float64(h.streams) }, func(v float64) string { return fmt.Sprintf("%.1f MB", v/(1<<20)) }},
		{"kernel memory", func(h holding) float64 { return h.kernel * float64(h.streams) }, func(v float64) string { return fmt.Sprintf("%.1f MB", v/(1<<20)) }},
		{"time until all are open", func(h holding) float64 { return h.opening.Seconds() }, seconds},
		{"CPU for opening all", func(h holding) float64 { return h.openCPU.Seconds() }, seconds},
		{"time for one event to each", func(h holding) float64 { return h.sending.Seconds() }, seconds},
		{"CPU for one event to each", func(h holding) float64 { return h.sendCPU.Seconds() }, seconds},
	} {
		var text string
		var x, y []float64
		for _, h := range all {
			v := way.of(h)
			text += fmt.Sprintf("%d: %s  ", h.streams, way.show(v))
			x, y = append(x, float64(h.streams)), append(y, v)
		}
		e := exponent(x, y)
		found.check(way.what+" by streams", text+fmt.Sprintf("exponent %.2f", e), "", "≤ 1.10", e <= 1.1)
	}
	return nil
}

func seconds(v float64) string { return short(time.Duration(v * float64(time.Second))) }

// exponent is the slope of the line through the logarithms (least squares).
func exponent(x, y []float64) float64 {
	var sx, sy, sxx, sxy float64
	for i := range x {
		a, b := math.Log(x[i]), math.Log(max(y[i], 1e-9))
		sx, sy, sxx, sxy = sx+a, sy+b, sxx+a*a, sxy+a*b
	}
	n := float64(len(x))
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

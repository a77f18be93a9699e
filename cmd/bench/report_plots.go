package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// plots writes what was measured as pictures into a directory: latency by rate
// and memory by streams, as far as their sections have run.
func (r *runner) plots(dir string) error {
	const milli, mega = 1e3, 1 << 20
	files := map[string]plot{}
	if len(r.paces) > 1 {
		p := plot{
			title: "From COMMIT to the client", x: "notifications/s", y: "ms", logarithmic: true,
			series: []series{{name: "gateway, median"}, {name: "gateway, p99"}, {name: "bare NOTIFY, median", dashed: true}, {name: "bare NOTIFY, p99", dashed: true}},
		}
		for _, pace := range r.paces {
			for i, d := range []float64{
				pace.acknowledged.at(50).Seconds(), pace.acknowledged.at(99).Seconds(), pace.bell.at(50).Seconds(), pace.bell.at(99).Seconds(),
			} {
				p.series[i].points = append(p.series[i].points, [2]float64{float64(pace.rate), max(d*milli, 1e-3)})
			}
		}
		files["latency.svg"] = p
	}
	if len(r.held) > 1 {
		p := plot{
			title: "Memory of idle streams", x: "streams", y: "MB",
			series: []series{{name: "gateway and kernel"}, {name: "gateway (RSS)"}, {name: "bare event loop", dashed: true}},
		}
		for i := range p.series {
			p.series[i].points = append(p.series[i].points, [2]float64{})
		}
		for _, h := range r.held {
			for i, each := range []float64{h.rss + h.kernel, h.rss, h.floorRSS + h.floor} {
				p.series[i].points = append(p.series[i].points, [2]float64{float64(h.streams), each * float64(h.streams) / mega})
			}
		}
		files["memory.svg"] = p
	}
	for name, p := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(p.svg()), 0o644); err != nil {
			return fmt.Errorf("write a plot: %w", err)
		}
	}
	return nil
}

package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A plot that no browser draws, or one without its numbers, would stand in the
// README all the same.
func TestPlot(t *testing.T) {
	for name, p := range map[string]plot{
		"linear": {title: "Memory <&> streams", x: "streams", y: "MB", series: []series{
			{name: "one", points: [][2]float64{{0, 0}, {1000, 12.5}, {18_000, 225}}},
			{name: "floor", dashed: true, points: [][2]float64{{0, 0}, {1000, 4}, {18_000, 72}}},
		}},
		"logarithmic": {title: "Latency", x: "rate", y: "ms", logarithmic: true, series: []series{
			{name: "a", points: [][2]float64{{20, 0.8}, {5000, 1.1}}},
			{name: "b", points: [][2]float64{{20, 6}, {5000, 62}}},
			{name: "c", points: [][2]float64{{20, 0.3}, {5000, 0.2}}},
			{name: "d", points: [][2]float64{{20, 8}, {5000, 5}}},
		}},
	} {
		got := p.svg()
		for d := xml.NewDecoder(strings.NewReader(got)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		file := "testdata/" + name + ".svg"
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s has changed; -update rewrites it", name)
		}
	}
}

package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// plot is a chart of lines, written as SVG by hand: it needs no library, and
// its colours are readable on a light and on a dark page.
type plot struct {
	title, x, y string // x and y name the axes
	logarithmic bool   // both axes; else both begin at 0
	series      []series
}

type series struct {
	name   string
	dashed bool // a floor
	points [][2]float64
}

const (
	plotWidth, plotHeight    = 720, 400
	plotLeft, plotRight      = 72, 24 // margins
	plotTop, plotBottom      = 64, 56
	plotStyle                = `text{font:13px system-ui,sans-serif;fill:#768390}.t{font-size:16px;font-weight:600}.g{stroke:#768390;stroke-opacity:.25}.l{fill:none;stroke-width:2.5}`
	plotSteps                = 5 // about as many lines of the grid
	legendLine, legendColumn = 18, 220
)

// plotColours are in the middle between black and white.
func plotColours() []string { return []string{"#2f81f7", "#d2691e", "#2da44e", "#a371f7"} }

// svg writes the chart.
func (p *plot) svg() string {
	var b strings.Builder
	legend := (len(p.series) + 2) / 3 * legendLine
	height := plotHeight + legend
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n<style>%s</style>\n",
		plotWidth, height, html.EscapeString(p.title), plotStyle)
	text := func(x, y float64, class, anchor, s string) {
		fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\" text-anchor=\"%s\">%s</text>\n", x, y, class, anchor, html.EscapeString(s))
	}
	text(plotLeft, 24, "t", "start", p.title)
	top, bottom := float64(plotTop+legend), float64(height-plotBottom)
	ax := p.axis(0, plotLeft, plotWidth-plotRight)
	ay := p.axis(1, bottom, top)
	for _, v := range ay.ticks {
		fmt.Fprintf(&b, "<line class=\"g\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", plotLeft, plotWidth-plotRight, ay.at(v), ay.at(v))
		text(plotLeft-8, ay.at(v)+4, "", "end", number(v))
	}
	for _, v := range ax.ticks {
		fmt.Fprintf(&b, "<line class=\"g\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", ax.at(v), ax.at(v), top, bottom)
		text(ax.at(v), bottom+20, "", "middle", number(v))
	}
	text((plotLeft+plotWidth-plotRight)/2, bottom+44, "", "middle", p.x)
	text(8, top-12, "", "start", p.y)
	for i, s := range p.series {
		style := fmt.Sprintf("stroke=\"%s\"", plotColours()[i%len(plotColours())])
		if s.dashed {
			style += ` stroke-dasharray="6 5"`
		}
		var line strings.Builder
		for _, point := range s.points {
			fmt.Fprintf(&line, "%.1f,%.1f ", ax.at(point[0]), ay.at(point[1]))
		}
		fmt.Fprintf(&b, "<polyline class=\"l\" %s points=\"%s\"/>\n", style, strings.TrimSpace(line.String()))
		x, y := float64(plotLeft+i%3*legendColumn), float64(46+i/3*legendLine)
		fmt.Fprintf(&b, "<line class=\"l\" %s x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", style, x, x+24, y-4, y-4)
		text(x+30, y, "", "start", s.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// axis maps values to places.
type axis struct {
	ticks       []float64
	from, to    float64 // values at its ends, as their logarithms where it is logarithmic
	start, end  float64 // places of its ends
	logarithmic bool
}

func (a *axis) at(v float64) float64 {
	if a.logarithmic {
		v = math.Log10(v)
	}
	return a.start + (v-a.from)/(a.to-a.from)*(a.end-a.start)
}

// axis chooses an axis that holds the coordinate i of every point.
func (p *plot) axis(i int, start, end float64) axis {
	low, high := math.Inf(1), math.Inf(-1)
	for _, s := range p.series {
		for _, point := range s.points {
			low, high = min(low, point[i]), max(high, point[i])
		}
	}
	a := axis{start: start, end: end, logarithmic: p.logarithmic}
	if !p.logarithmic {
		step := niceStep(high / plotSteps)
		a.to = math.Ceil(high/step) * step
		for v := 0.0; v <= a.to; v += step {
			a.ticks = append(a.ticks, v)
		}
		return a
	}
	a.from, a.to = math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	if a.from == a.to {
		a.to++
	}
	for e := a.from; e <= a.to; e++ {
		a.ticks = append(a.ticks, math.Pow(10, e))
	}
	return a
}

// niceStep is the next of 1, 2, 5, 10 and so on.
func niceStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(max(v, 1e-9))))
	for _, n := range []float64{1, 2, 5} {
		if n*power >= v {
			return n * power
		}
	}
	return 10 * power
}

// number writes a value of an axis, thousands with a comma.
func number(v float64) string {
	text := fmt.Sprintf("%.6g", v)
	if v >= 1000 {
		text = fmt.Sprintf("%d,%03d", int(v)/1000, int(v)%1000)
	}
	return text
}

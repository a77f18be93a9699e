package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// section is a part of the report that can be asked for alone.
type section struct {
	name  string
	title string
	run   func(context.Context, *results) error
}

// sections in the order in which they run.
func (r *runner) sections() []section {
	return []section{
		{"memory", "Memory of idle streams", r.memory},
		{"cpu", "CPU of delivered events", r.cpu},
		{"pings", "Pings", r.pings},
		{"storm", "A storm of reconnects", r.storm},
		{"slow", "Clients that never read", r.slow},
		{"growth", "Growth", r.growth},
		{"latency", "From COMMIT to the client", r.latency},
		{"insert", "What the CRM can insert", r.insert},
		{"replicas", "Many replicas on one Postgres", r.replicas},
		{"database", "The database's side", r.database},
	}
}

// runner runs the sections and keeps what several of them need.
type runner struct {
	*bench
	scale   float64         // of streams and durations; 1 is the real report
	streams map[int]holding // by number of streams
	held    []holding       // in order, for the plot
	paces   []pace
}

// rounds is in how many turns what is compared is measured.
const rounds = 3

// result is one line of the report.
type result struct {
	Section string
	What    string
	Value   string // with its unit
	Floor   string `json:",omitempty"` // the least that it could be, measured in the same run
	Target  string `json:",omitempty"`
	Met     *bool  `json:",omitempty"` // nil where there is no target
}

// results is what a report has found.
type results struct {
	section string
	quick   bool // at another scale than the targets'
	Lines   []result
}

// add adds a line without a target.
func (r *results) add(what, value, floor string) {
	r.Lines = append(r.Lines, result{Section: r.section, What: what, Value: value, Floor: floor})
}

// check adds a line with one, which holds at scale 1 alone.
func (r *results) check(what, value, floor, target string, met bool) {
	line := result{Section: r.section, What: what, Value: value, Floor: floor, Target: target, Met: &met}
	if r.quick {
		line.Target, line.Met = target+" at scale 1", nil
	}
	r.Lines = append(r.Lines, line)
}

// expect adds a line with a number that must come out at any scale.
func (r *results) expect(what, value, want string, met bool) {
	r.Lines = append(r.Lines, result{Section: r.section, What: what, Value: value, Target: want, Met: &met})
}

// report measures the gateway of this repository.
func report(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	r := &runner{streams: map[int]holding{}}
	all := r.sections()
	var names []string
	for _, s := range all {
		names = append(names, s.name)
	}
	fs := flag.NewFlagSet("report", flag.ContinueOnError)
	only := fs.String("only", "", "run these `sections` alone, comma-separated: "+strings.Join(names, ", "))
	asJSON := fs.Bool("json", false, "write JSON instead of tables")
	plots := fs.String("plots", "", "write latency.svg and memory.svg into this `directory`")
	fs.Float64Var(&r.scale, "scale", 1, "share of the streams and of the time to measure with, for a quick look; below 1 no target is judged")
	if err := parseFlags(fs, "bench report [--only memory,cpu] [--plots deploy] [--json] [--scale 1]", args, stdout); err != nil {
		return err
	}
	if r.scale <= 0 || r.scale > 1 {
		return usageError{errors.New("--scale: must be above 0 and at most 1")}
	}
	if *only != "" {
		for name := range strings.SplitSeq(*only, ",") {
			if !slices.Contains(names, name) {
				return usageError{fmt.Errorf("--only: no section %q; there are %s", name, strings.Join(names, ", "))}
			}
		}
		all = slices.DeleteFunc(all, func(s section) bool { return !slices.Contains(strings.Split(*only, ","), s.name) })
	}
	if *plots != "" { // not after twenty minutes
		if err := os.MkdirAll(*plots, 0o755); err != nil {
			return fmt.Errorf("make the plots' directory: %w", err)
		}
	}
	say := func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }
	var err error
	if r.bench, err = startBench(ctx, rand.Text()+rand.Text(), say); err != nil {
		return err
	}
	found := results{quick: r.scale < 1}
	for _, s := range all {
		began, before := time.Now(), len(found.Lines)
		say("%s …", s.title)
		found.section = s.name
		if err = s.run(ctx, &found); err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			break
		}
		say("%s: %.0f s", s.title, time.Since(began).Seconds())
		if !*asJSON {
			table(stdout, s.title, found.Lines[before:])
		}
	}
	if *asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", " ")
		err = errors.Join(err, encoder.Encode(found))
	}
	if *plots != "" && err == nil {
		err = r.plots(*plots)
	}
	return errors.Join(err, r.stop(ctx))
}

// scaled is n, less in a quick look.
func (r *runner) scaled(n int) int { return max(1, int(float64(n)*r.scale)) }

// period is d, less in a quick look.
func (r *runner) period(d time.Duration) time.Duration {
	return max(time.Second, time.Duration(float64(d)*r.scale))
}

// most is how many of n streams the open-file limit allows the gateway, which
// is one process, to hold.
func (r *runner) most(n int) int {
	n = r.scaled(n)
	limit := openFileLimit() - 2*filesBeside
	if n > limit {
		r.say("the open-file limit allows %d of %d streams", limit, n)
	}
	return min(n, limit)
}

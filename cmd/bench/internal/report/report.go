// Package report measures the gateway of this repository beside its floors (the
// least that any such server costs, measured in the same run) and its targets,
// and any address with Load.
package report

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/proc"
	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
)

// section is a part of the report that can be asked for alone.
type section struct {
	name  string
	title string
	run   func(context.Context, *Results) error
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
		{"changes", "What follows a notification", r.changes},
		{"replicas", "Many replicas on one Postgres", r.replicas},
		{"database", "The database's side", r.database},
	}
}

// runner runs the sections and keeps what several of them need.
type runner struct {
	*Stack
	scale   float64         // of streams and durations; 1 is the real report
	streams map[int]holding // by number of streams
}

// rounds is how often things that are compared take turns, because the machine
// is not equally fast all the time.
const rounds = 3

// Result is one line of the report.
type Result struct {
	Section string
	What    string
	Value   string // with its unit
	Floor   string `json:",omitempty"` // the least that it could be, measured in the same run
	Target  string `json:",omitempty"`
	Met     *bool  `json:",omitempty"` // nil where there is no target
}

// Results is what a report has found.
type Results struct {
	section string
	quick   bool // at another scale than the targets'
	Lines   []Result
}

// add adds a line without a target.
func (r *Results) add(what, value, floor string) {
	r.Lines = append(r.Lines, Result{Section: r.section, What: what, Value: value, Floor: floor})
}

// check adds a line with a target, which is judged at scale 1 alone.
func (r *Results) check(what, value, floor, target string, met bool) {
	line := Result{Section: r.section, What: what, Value: value, Floor: floor, Target: target, Met: &met}
	if r.quick {
		line.Target, line.Met = target+" at scale 1", nil
	}
	r.Lines = append(r.Lines, line)
}

// expect adds a line with a number that must be exact at any scale.
func (r *Results) expect(what, value, want string, met bool) {
	r.Lines = append(r.Lines, Result{Section: r.section, What: what, Value: value, Target: want, Met: &met})
}

// Options is what a report measures and how it is written.
type Options struct {
	Only  []string // sections; none: all
	Scale float64  // share of the streams and of the time; below 1 no target is judged
	JSON  bool
}

// Sections returns the names of all sections, in the order in which they run.
func Sections() (names []string) {
	for _, s := range (&runner{}).sections() {
		names = append(names, s.name)
	}
	return names
}

// Run measures the gateway of this repository, section by section.
func Run(ctx context.Context, o Options, stdout, stderr io.Writer) error {
	r := &runner{scale: o.Scale, streams: map[int]holding{}}
	say := func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }
	var err error
	if r.Stack, err = StartStack(ctx, rand.Text()+rand.Text(), say); err != nil {
		return err
	}
	found := Results{quick: r.scale < 1}
	for _, s := range r.sections() {
		if len(o.Only) > 0 && !slices.Contains(o.Only, s.name) {
			continue
		}
		began, before := time.Now(), len(found.Lines)
		say("%s …", s.title)
		found.section = s.name
		if err = s.run(ctx, &found); err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			break
		}
		say("%s: %.0f s", s.title, time.Since(began).Seconds())
		if !o.JSON {
			table(stdout, s.title, found.Lines[before:])
		}
	}
	if o.JSON {
		err = errors.Join(err, found.WriteJSON(stdout))
	}
	return errors.Join(err, r.Stop(ctx))
}

// WriteTable writes the results in columns, with a mark beside each target.
func (r *Results) WriteTable(w io.Writer, title string) { table(w, title, r.Lines) }

// WriteJSON writes the results as one JSON object.
func (r *Results) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	return encoder.Encode(r)
}

// scaled is n, less in a quick swarm.PollInterval.
func (r *runner) scaled(n int) int { return max(1, int(float64(n)*r.scale)) }

// period is d, less in a quick swarm.PollInterval.
func (r *runner) period(d time.Duration) time.Duration {
	return max(time.Second, time.Duration(float64(d)*r.scale))
}

// most is how many of n streams the open-file limit allows the gateway, which
// is one process, to hold.
func (r *runner) most(n int) int {
	n = r.scaled(n)
	limit := proc.OpenFileLimit() - 2*swarm.OtherFiles
	if n > limit {
		r.say("the open-file limit allows %d of %d streams", limit, n)
	}
	return min(n, limit)
}

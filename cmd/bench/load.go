package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// load opens streams at any address and counts what arrives. It fails when
// that is not what must arrive.
func load(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	p, err := parseLoad(args, stdout)
	if err != nil {
		return err
	}
	l := &loader{loadPlan: p, progress: &progress{w: stderr}}
	found, err := l.run(ctx)
	l.progress.end()
	if found != nil {
		if p.json {
			encoder := json.NewEncoder(stdout)
			encoder.SetIndent("", " ")
			err = errors.Join(err, encoder.Encode(found))
		} else {
			table(stdout, p.target.url.String(), found.Lines)
		}
	}
	return err
}

// loader is a load that runs.
type loader struct {
	loadPlan
	progress  *progress
	crew      *crew
	slowCrew  *crew        // nil without slow readers
	committed atomic.Int64 // rows
	lags      lags         // of the probe; set when writing has ended
}

// run opens the streams, listens or inserts, and says what came. The results
// are nil when the streams could not even be opened.
func (l *loader) run(ctx context.Context) (*results, error) {
	var err error
	if l.crew, err = startCrew(l.target, l.streams, l.inFlight); err != nil {
		return nil, err
	}
	defer l.crew.stop()
	l.crew.patience += l.duration // a server that has nothing to send may be silent
	began := time.Now()
	if err := l.crew.open(l.streams, l.tokens, false); err != nil {
		return nil, err
	}
	isOpen := func(c counts) bool {
		l.progress.show("%d of %d streams open", c.Open, c.Wanted)
		return c.Open == c.Wanted
	}
	if _, err := l.crew.wait(ctx, "open streams", isOpen); err != nil {
		return nil, err
	}
	opening := time.Since(began)
	if l.slow > 0 {
		if l.slowCrew, err = startCrew(l.target, l.slow, l.inFlight); err != nil {
			return nil, err
		}
		defer l.slowCrew.stop()
		if err := l.slowCrew.open(l.slow, l.tokens, true); err != nil {
			return nil, err
		}
		if _, err := l.slowCrew.wait(ctx, "open slow streams", isOpen); err != nil {
			return nil, err
		}
	}
	cpuBefore, _ := cpuOf(l.pid) // without a process it stays 0
	clients := l.crew.cpu()
	began = time.Now()
	storm, got, err := l.listen(ctx)
	took := time.Since(began)

	found := &results{section: "load"}
	found.add("streams", fmt.Sprintf("%d open in %s", l.streams, short(opening)), "")
	if storm > 0 {
		found.add("streams that came back", fmt.Sprintf("%d in %s", l.storm, short(storm)), "")
	}
	if l.database != "" {
		want := l.committed.Load() * int64(l.streams/l.users)
		have := got.Events[kindNotification]
		if what := "notifications received"; err != nil && have >= want { // of what was inserted until then, which proves nothing
			found.add(what, fmt.Sprintf("%d, until it broke off", have), "")
		} else {
			found.expect(what, fmt.Sprintf("%d, %.0f/s", have, float64(have)/took.Seconds()), fmt.Sprint(want), have == want || l.storm > 0 && have > want)
		}
		found.add("rows inserted, which stay in the table", fmt.Sprint(l.committed.Load()+int64(len(l.lags))), "")
	} else {
		found.add("notifications received", fmt.Sprint(got.Events[kindNotification]), "")
	}
	if len(l.lags) > 0 {
		found.add("COMMIT acknowledged → row read, median / p99", l.lags.String(), "")
	}
	found.add("pings, resets, errors, others", fmt.Sprintf("%d, %d, %d, %d", got.Events[kindPing], got.Events[kindReset], got.Events[kindError], got.Events[kindOther]), "")
	found.add("bytes", fmt.Sprint(got.Bytes), "")
	if l.slowCrew != nil {
		slow, _ := l.slowCrew.all(crowdTask{Do: crowdCount}) // what is known of them
		found.add("slow readers that the server ended", fmt.Sprintf("%d of %d", slow.Ended, l.slow), "")
	}
	if err == nil { // else the time was too short for a share of it
		found.add("CPU of the generator", fmt.Sprintf("%.0f %% of a core", percent(l.crew.cpu()-clients, took)), "")
	}
	if cpu, e := cpuOf(l.pid); e == nil && err == nil && l.pid > 0 {
		found.add("CPU of the server", fmt.Sprintf("%.0f %% of a core", percent(cpu-cpuBefore, took)), "")
	}
	if rss, err := statusOf(l.pid, "VmRSS"); err == nil && l.pid > 0 {
		found.add("resident memory of the server", fmt.Sprintf("%.1f MB", float64(rss)/(1<<20)), "")
	}
	return found, err
}

// listen lets the duration pass, with rows and a storm if those are asked for,
// and waits for what must come.
func (l *loader) listen(ctx context.Context) (storm time.Duration, got counts, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var writing sync.WaitGroup
	defer writing.Wait()
	defer cancel()
	written := make(chan error, 1) // one result
	if l.database != "" {
		writing.Go(func() { written <- l.write(ctx) })
	}
	var writeErr error
	writes := l.database != ""
	failed := func() bool {
		select {
		case writeErr = <-written:
			writes = false
		default:
		}
		return writeErr != nil
	}
	began := time.Now()
	each := int64(l.streams / l.users)
	show := func(c counts) {
		l.progress.show("%s: %d of %d streams, %d of %d notifications", time.Since(began).Round(time.Second), c.Open, c.Wanted, c.Events[kindNotification], l.committed.Load()*each)
	}
	if l.storm > 0 {
		got, err = l.crew.wait(ctx, "listen", func(c counts) bool { show(c); return failed() || time.Since(began) > l.duration/2 })
		if err = errors.Join(err, writeErr); err != nil {
			return 0, got, err
		}
		cut := time.Now()
		if err := l.crew.drop(l.storm); err != nil {
			return 0, got, err
		}
		if _, err := l.crew.all(crowdTask{Do: crowdResume}); err != nil {
			return 0, got, err
		}
		got, err = l.crew.wait(ctx, "come back", func(c counts) bool { show(c); return failed() || c.Open == c.Wanted })
		if err = errors.Join(err, writeErr); err != nil {
			return 0, got, err
		}
		storm = time.Since(cut)
	}
	got, err = l.crew.wait(ctx, "listen", func(c counts) bool {
		show(c)
		broken := failed()
		done := !writes && time.Since(began) >= l.duration
		return broken || done && (l.database == "" || c.Events[kindNotification] >= l.committed.Load()*each)
	})
	return storm, got, errors.Join(err, writeErr)
}

// write inserts rows for the duration, and probes of the latency. The first
// error ends both.
func (l *loader) write(ctx context.Context) error {
	db, err := throwaway.Open(ctx, l.database)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var probing sync.WaitGroup
	if l.probe != "" && l.insert == insertSQL {
		p, err := openProbes(ctx, l.target, []string{l.probe})
		if err != nil {
			return err
		}
		defer p.close()
		probing.Go(func() {
			const perSecond = 10
			var err error
			if l.lags, _, err = p.latency(ctx, db, l.first+l.users, max(1, int(l.duration.Seconds()*perSecond)), 1, perSecond); err != nil {
				stop(err)
			}
		})
	}
	w := &writer{db: db, statement: l.insert, first: l.first, users: l.users, filling: l.payload}
	if err := w.write(ctx, int(l.rate*l.duration.Seconds()), l.burst, l.rate, func(n int) { l.committed.Add(int64(n)) }); err != nil {
		stop(err)
	}
	probing.Wait()
	return context.Cause(ctx)
}

// progress is a line that is written over on a terminal, and once in a while
// elsewhere.
type progress struct {
	w     io.Writer
	last  time.Time
	shown bool
}

func (p *progress) show(format string, args ...any) {
	every, end := time.Second, "\n"
	if f, ok := p.w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			every, end = time.Second/5, "\x1b[K\r"
		}
	}
	if time.Since(p.last) < every {
		return
	}
	p.last, p.shown = time.Now(), end != "\n"
	fmt.Fprintf(p.w, format+end, args...)
}

// end leaves the line.
func (p *progress) end() {
	if p.shown {
		fmt.Fprintln(p.w)
	}
}

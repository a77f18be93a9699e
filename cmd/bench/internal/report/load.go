package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/proc"
	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// LoadPlan is what one load does.
type LoadPlan struct {
	Target   swarm.Target
	Streams  int
	Users    int      // that the streams belong to; divides Streams
	First    int      // the first user; the others follow
	Tokens   []string // one for each user, or as given
	Probe    string   // token of the user after the others, for the latency; empty without one
	Slow     int      // streams beside the others that never read
	Storm    int      // streams that are cut at half-time and come back
	InFlight int      // connections that wait for their response at once
	Duration time.Duration
	Database string // where rows are inserted; empty: nowhere
	Insert   string // the statement, with the parameters of InsertSQL
	Rate     float64
	Burst    int // rows in one transaction
	Payload  int // bytes of filling in a row
	PID      int // of the server, when it runs here; else 0
}

// Load opens streams at any address and counts what arrives. It fails when
// that is not what must arrive; the results are nil when the streams could not
// be opened.
func Load(ctx context.Context, plan LoadPlan, stderr io.Writer) (*Results, error) {
	if plan.Database != "" {
		if err := tryDatabase(ctx, plan.Database); err != nil {
			return nil, fmt.Errorf("the CRM's Postgres: %w", err)
		}
	}
	l := &loader{LoadPlan: plan, progress: &progress{w: stderr}}
	found, err := l.run(ctx)
	l.progress.end()
	return found, err
}

// tryDatabase connects once, so that a wrong password is reported before thousands
// of streams have been opened.
func tryDatabase(ctx context.Context, url string) error {
	db, err := throwaway.Open(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Exec(ctx, "SELECT 1")
}

// loader is a load that runs.
type loader struct {
	LoadPlan
	progress  *progress
	pool      *swarm.Pool
	slowPool  *swarm.Pool  // nil without slow readers
	committed atomic.Int64 // rows
	lags      lags         // of the probe; set when writing has ended
}

// run opens the streams, listens or inserts, and says what came. The Results
// are nil when the streams could not even be opened.
func (l *loader) run(ctx context.Context) (*Results, error) {
	var err error
	if l.pool, err = swarm.Start(l.Target, l.Streams, l.InFlight); err != nil {
		return nil, err
	}
	defer l.pool.Stop()
	l.pool.StallTimeout += l.Duration // a server that has nothing to send may be silent
	began := time.Now()
	if err := l.pool.Open(l.Streams, l.Tokens, false); err != nil {
		return nil, err
	}
	isOpen := func(c swarm.Counts) bool {
		l.progress.show("%d of %d streams open", c.Open, c.Wanted)
		return c.Open == c.Wanted
	}
	if _, err := l.pool.Wait(ctx, "open streams", isOpen); err != nil {
		return nil, err
	}
	opening := time.Since(began)
	if l.Slow > 0 {
		if l.slowPool, err = swarm.Start(l.Target, l.Slow, l.InFlight); err != nil {
			return nil, err
		}
		defer l.slowPool.Stop()
		if err := l.slowPool.Open(l.Slow, l.Tokens, true); err != nil {
			return nil, err
		}
		if _, err := l.slowPool.Wait(ctx, "open slow streams", isOpen); err != nil {
			return nil, err
		}
	}
	cpuBefore, _ := proc.CPU(l.PID) // without a process it stays 0
	clients := l.pool.CPU()
	began = time.Now()
	storm, got, err := l.listen(ctx)
	took := time.Since(began)

	found := &Results{section: "load"}
	found.add("streams", fmt.Sprintf("%d open in %s", l.Streams, short(opening)), "")
	if storm > 0 {
		found.add("streams that came back", fmt.Sprintf("%d in %s", l.Storm, short(storm)), "")
	}
	if l.Database != "" {
		want := l.committed.Load() * int64(l.Streams/l.Users)
		have := got.Events[swarm.Notification]
		if what := "notifications received"; err != nil && have >= want { // of what was inserted until then, which proves nothing
			found.add(what, fmt.Sprintf("%d, until it broke off", have), "")
		} else {
			found.expect(what, fmt.Sprintf("%d, %.0f/s", have, float64(have)/took.Seconds()), fmt.Sprint(want), have == want || l.Storm > 0 && have > want)
		}
		found.add("rows inserted, which stay in the table", fmt.Sprint(l.committed.Load()+int64(len(l.lags))), "")
	} else {
		found.add("notifications received", fmt.Sprint(got.Events[swarm.Notification]), "")
	}
	if len(l.lags) > 0 {
		found.add("COMMIT acknowledged → row read, median / p99", l.lags.String(), "")
	}
	found.add("pings, resets, errors, others", fmt.Sprintf("%d, %d, %d, %d", got.Events[swarm.Ping], got.Events[swarm.Reset], got.Events[swarm.Error], got.Events[swarm.Other]), "")
	found.add("bytes", fmt.Sprint(got.Bytes), "")
	if l.slowPool != nil {
		slow, _ := l.slowPool.Count() // what is known of them
		found.add("slow readers that the server ended", fmt.Sprintf("%d of %d", slow.Ended, l.Slow), "")
	}
	if err == nil { // else the time was too short for a share of it
		found.add("CPU of the generator", fmt.Sprintf("%.0f %% of a core", percent(l.pool.CPU()-clients, took)), "")
	}
	if cpu, e := proc.CPU(l.PID); e == nil && err == nil && l.PID > 0 {
		found.add("CPU of the server", fmt.Sprintf("%.0f %% of a core", percent(cpu-cpuBefore, took)), "")
	}
	if rss, err := proc.Memory(l.PID, "VmRSS"); err == nil && l.PID > 0 {
		found.add("resident memory of the server", fmt.Sprintf("%.1f MB", float64(rss)/(1<<20)), "")
	}
	return found, err
}

// listen lets the duration pass, with rows and a storm if those are asked for,
// and waits for what must come.
func (l *loader) listen(ctx context.Context) (storm time.Duration, got swarm.Counts, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var writing sync.WaitGroup
	defer writing.Wait()
	defer cancel()
	written := make(chan error, 1) // one result
	if l.Database != "" {
		writing.Go(func() { written <- l.write(ctx) })
	}
	var writeErr error
	writes := l.Database != ""
	failed := func() bool {
		select {
		case writeErr = <-written:
			writes = false
		default:
		}
		return writeErr != nil
	}
	began := time.Now()
	each := int64(l.Streams / l.Users)
	show := func(c swarm.Counts) {
		l.progress.show("%s: %d of %d streams, %d of %d notifications", time.Since(began).Round(time.Second), c.Open, c.Wanted, c.Events[swarm.Notification], l.committed.Load()*each)
	}
	if l.Storm > 0 {
		got, err = l.pool.Wait(ctx, "listen", func(c swarm.Counts) bool { show(c); return failed() || time.Since(began) > l.Duration/2 })
		if err = errors.Join(err, writeErr); err != nil {
			return 0, got, err
		}
		cut := time.Now()
		if err := l.pool.Drop(l.Storm); err != nil {
			return 0, got, err
		}
		if err := l.pool.Resume(nil); err != nil {
			return 0, got, err
		}
		got, err = l.pool.Wait(ctx, "come back", func(c swarm.Counts) bool { show(c); return failed() || c.Open == c.Wanted })
		if err = errors.Join(err, writeErr); err != nil {
			return 0, got, err
		}
		storm = time.Since(cut)
	}
	got, err = l.pool.Wait(ctx, "listen", func(c swarm.Counts) bool {
		show(c)
		broken := failed()
		done := !writes && time.Since(began) >= l.Duration
		return broken || done && (l.Database == "" || c.Events[swarm.Notification] >= l.committed.Load()*each)
	})
	return storm, got, errors.Join(err, writeErr)
}

// write inserts rows for the duration, and probes of the latency. The first
// error ends both.
func (l *loader) write(ctx context.Context) error {
	db, err := throwaway.Open(ctx, l.Database)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var probing sync.WaitGroup
	if l.Probe != "" && l.Insert == InsertSQL {
		p, err := openProbes(ctx, l.Target, []string{l.Probe})
		if err != nil {
			return err
		}
		defer p.close()
		probing.Go(func() {
			const perSecond = 10
			var err error
			if l.lags, _, err = p.latency(ctx, db, l.First+l.Users, max(1, int(l.Duration.Seconds()*perSecond)), 1, perSecond); err != nil {
				stop(err)
			}
		})
	}
	w := &writer{db: db, statement: l.Insert, first: l.First, users: l.Users, filling: l.Payload}
	if err := w.write(ctx, int(l.Rate*l.Duration.Seconds()), l.Burst, l.Rate, func(n int) { l.committed.Add(int64(n)) }); err != nil {
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

// Package swarm opens many event streams and watches them: it counts what each
// kind of event brought, cuts streams, and resumes them with their last event
// IDs. It knows HTTP and event streams, and nothing of the gateway.
//
// A Pool is a number of worker processes, because one process may open only so
// many files. A worker is this program again; it takes tasks as JSON lines.
package swarm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/proc"
)

const (
	OtherFiles       = 100    // files that a process opens beside its streams
	DefaultInFlight  = 1000   // connections that wait for their response at once
	streamsPerWorker = 20_000 // past it the worker's one thread would be the bottleneck

	// PollInterval is how often a condition is asked again.
	PollInterval = 20 * time.Millisecond
	// StallTimeout is how long Wait goes on while nothing changes.
	StallTimeout = 60 * time.Second
)

// Pool is a number of streams, spread over as many worker processes as the
// open-file limit asks for. The caller of Start calls Stop. A Pool is not safe for
// use by several goroutines at once.
type Pool struct {
	StallTimeout time.Duration // how long Wait goes on while nothing changes

	workers []*worker
	share   int // streams of one worker
	opened  int
}

// worker is one process of a Pool.
type worker struct {
	*Subprocess
	tasks   *json.Encoder
	answers *json.Decoder
}

// Target is the address that streams are opened at.
type Target struct {
	URL      *url.URL // with a port
	Counted  string   // the event type that counts as a notification
	Insecure bool     // accept any certificate
}

// Start starts the processes that hold up to streams streams; Open opens them.
func Start(t Target, streams, inFlight int) (*Pool, error) {
	a, err := net.ResolveTCPAddr("tcp", t.URL.Host)
	if err != nil {
		return nil, fmt.Errorf("look the address up: %w", err)
	}
	most := min(streamsPerWorker, proc.OpenFileLimit()-OtherFiles)
	if most < 1 {
		return nil, errors.New("the open-file limit leaves no stream")
	}
	processes := max(1, (streams+most-1)/most)
	p := &Pool{share: (streams + processes - 1) / processes, StallTimeout: StallTimeout}
	for i := range processes {
		started, err := StartSubprocess(WorkerCommand)
		if err != nil {
			p.Stop()
			return nil, err
		}
		w := &worker{Subprocess: started, tasks: json.NewEncoder(started.In), answers: json.NewDecoder(started.Out)}
		p.workers = append(p.workers, w)
		if err := w.tasks.Encode(task{
			Do: taskBegin, Address: a.AddrPort().String(), Host: t.URL.Host, Path: t.URL.RequestURI(), Counted: t.Counted,
			TLS: t.URL.Scheme == "https", Insecure: t.Insecure,
			InFlight: max(1, inFlight/processes), First: i * p.share,
		}); err != nil {
			p.Stop()
			return nil, fmt.Errorf("start a worker: %w", err)
		}
	}
	return p, nil
}

// Open begins to open n more streams; Wait waits for them. Stream i sends the
// token i modulo the number of tokens. Silent streams never read.
func (p *Pool) Open(n int, tokens []string, silent bool) error {
	for i, w := range p.workers {
		room := min(n, max(0, (i+1)*p.share-p.opened))
		if _, err := w.do(task{Do: taskOpen, Streams: room, Tokens: tokens, Silent: silent}); err != nil {
			return err
		}
		p.opened += room
		n -= room
	}
	return nil
}

// Drop cuts the first n streams.
func (p *Pool) Drop(n int) error {
	for _, w := range p.workers {
		answer, err := w.do(task{Do: taskDrop, Streams: n})
		if err != nil {
			return err
		}
		n -= answer.Dropped
	}
	return nil
}

// Resume begins to open the streams that Drop has cut again, with their last
// event IDs, and with other tokens unless tokens is nil.
func (p *Pool) Resume(tokens []string) error {
	_, err := p.all(task{Do: taskResume, Tokens: tokens})
	return err
}

// Count returns what has been seen since the start, without Pings.
func (p *Pool) Count() (Counts, error) { return p.all(task{Do: taskCount}) }

// CountPings returns what has been seen since the start, with Pings.
func (p *Pool) CountPings() (Counts, error) { return p.all(task{Do: taskPings}) }

// all gives every worker the same task and adds the answers up.
func (p *Pool) all(t task) (Counts, error) {
	var sum Counts
	for _, w := range p.workers {
		one, err := w.do(t)
		if err != nil {
			return sum, err
		}
		sum.add(one)
	}
	return sum, nil
}

// Wait returns once done holds. It fails when ctx ends, when a stream breaks,
// and when nothing has changed for StallTimeout. what says what is waited for.
func (p *Pool) Wait(ctx context.Context, what string, done func(Counts) bool) (Counts, error) {
	tick := time.NewTicker(PollInterval)
	defer tick.Stop()
	var last Counts
	moved := time.Now()
	for {
		now, err := p.Count()
		if err != nil {
			return now, err
		}
		if err := now.Broken(); err != nil {
			return now, fmt.Errorf("%s: %w", what, err)
		}
		if done(now) {
			return now, nil
		}
		if now.Open != last.Open || now.Events[Notification] != last.Events[Notification] {
			last, moved = now, time.Now()
		}
		if time.Since(moved) > p.StallTimeout {
			return now, fmt.Errorf("%s: nothing has come for %s; %d of %d streams are open, %d notifications came",
				what, p.StallTimeout, now.Open, now.Wanted, now.Events[Notification])
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return now, context.Cause(ctx)
		}
	}
}

// AllOpen is a condition for Wait: every stream is open and has had its first event.
func AllOpen(c Counts) bool { return c.Open == c.Wanted && c.Events[Connected] >= c.Opened }

// CPU is the time that the workers have run.
func (p *Pool) CPU() time.Duration {
	var sum time.Duration
	for _, w := range p.workers {
		used, _ := proc.CPU(w.PID()) // a worker that has ended shows as an error of Wait
		sum += used
	}
	return sum
}

// Stop ends the workers, and with them the streams.
func (p *Pool) Stop() {
	for _, w := range p.workers {
		w.Stop()
	}
}

func (w *worker) do(t task) (Counts, error) {
	var answer Counts
	if err := w.tasks.Encode(t); err != nil {
		return answer, fmt.Errorf("a worker process has ended: %w", err)
	}
	if err := w.answers.Decode(&answer); err != nil {
		return answer, fmt.Errorf("a worker process has ended: %w", err)
	}
	return answer, nil
}

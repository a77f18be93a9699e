// Package losscheck writes rows as a CRM does while clients hop between
// gateways, and compares what the clients received with the CRM's own table.
//
// It shares no code with what it checks: it knows no cursor and no feed, and it
// reads event streams with a reader of its own.
package losscheck

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/workload"
)

const (
	gatewaySessions = "notification_gateway" // application_name of the gateway's connections
	connectDeadline = 30 * time.Second       // for every client's first connection
	headerTimeout   = 10 * time.Second       // for a gateway's answer
	retryPause      = 200 * time.Millisecond // between two tries at a Postgres that is away
	progressEvery   = time.Second
)

// Options is what a run does.
type Options struct {
	Load       workload.Config
	Gateways   []string // stream URLs
	Recipients []Recipient
	Clients    int           // for each recipient
	Duration   time.Duration // of writing
	Hop        time.Duration // mean time that a client stays at a gateway; zero: until the stream breaks
	Terminate  time.Duration // between two rounds of terminated sessions; zero: never
	Settle     time.Duration // how long to wait for rows while none comes
}

// Recipient is a user and a token that names it.
type Recipient struct {
	User  int64
	Token string
}

// Run connects the clients, writes, waits until nothing comes any more, and
// compares. It logs its progress once a second. remove deletes the run's rows;
// call it unless the rows are to be looked at.
func Run(ctx context.Context, o Options, log *slog.Logger) (report *Report, remove func(context.Context) error, err error) {
	load, err := workload.New(ctx, o.Load)
	if err != nil {
		return nil, nil, err
	}
	report, err = newRun(o, load, log).run(ctx)
	return report, load.Remove, err
}

// run is one run of the checker.
type run struct {
	options Options
	load    *workload.Workload
	log     *slog.Logger
	clients []*client
	changed chan struct{} // capacity 1: some client has something new

	terminated atomic.Int64
}

func newRun(o Options, load *workload.Workload, log *slog.Logger) *run {
	r := &run{options: o, load: load, log: log, changed: make(chan struct{}, 1)}
	connections := &http.Client{Transport: &http.Transport{
		ResponseHeaderTimeout: headerTimeout, DisableCompression: true, DisableKeepAlives: true, // a hop is a new connection
	}}
	addresses := o.Gateways
	if o.Load.Changes {
		addresses = withChanges(addresses)
	}
	for _, who := range o.Recipients {
		for n := range o.Clients {
			r.clients = append(r.clients, &client{
				name: fmt.Sprintf("client %d of user %d", n+1, who.User), user: who.User, token: who.Token,
				addresses: addresses, hop: o.Hop, changes: o.Load.Changes, http: connections,
				number: load.Number, reload: load.Rows, changed: r.changed, received: map[int64]receipt{},
			})
		}
	}
	return r
}

// withChanges asks the streams for what becomes of notifications, too.
func withChanges(addresses []string) (all []string) {
	for _, address := range addresses {
		separator := "?"
		if strings.Contains(address, "?") {
			separator = "&"
		}
		all = append(all, address+separator+"changes=true")
	}
	return all
}

func (r *run) run(ctx context.Context) (*Report, error) {
	running, stop := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	end := func() { stop(nil); parts.Wait() }
	defer end()
	for _, c := range r.clients {
		parts.Go(func() {
			if err := c.run(running); err != nil {
				stop(err)
			}
		})
	}
	if err := r.awaitClients(running); err != nil {
		return nil, err
	}
	parts.Go(func() { r.progress(running) })
	writing, cancel := context.WithTimeout(running, r.options.Duration)
	defer cancel()
	if r.options.Terminate > 0 {
		parts.Go(func() {
			if err := r.terminate(writing); err != nil {
				stop(err)
			}
		})
	}
	r.load.Run(writing)
	if running.Err() != nil {
		return nil, context.Cause(running)
	}
	table, err := r.table(running)
	if err != nil {
		return nil, err
	}
	if err := r.settle(running, table); err != nil {
		return nil, err
	}
	end()
	report := compare(table, r.load, r.clients)
	stats := r.load.Stats()
	report.Changed = stats.Changed
	report.Ambiguous, report.Broken, report.Terminated = stats.Ambiguous, stats.Failures, int(r.terminated.Load())
	return report, nil
}

// awaitClients waits until every client has a position: from then on it
// must receive all of its user's rows.
func (r *run) awaitClients(ctx context.Context) error {
	deadline := time.NewTimer(connectDeadline)
	defer deadline.Stop()
	for {
		ready := 0
		var missing *client // one of those that are not
		for _, c := range r.clients {
			if c.counted().Ready {
				ready++
			} else {
				missing = c
			}
		}
		if ready == len(r.clients) {
			return nil
		}
		select {
		case <-r.changed:
		case <-deadline.C:
			return fmt.Errorf("only %d of %d clients could connect and were given an id; %s: %v", ready, len(r.clients), missing.name, missing.lastError())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// table reads what the CRM's table holds in the end, once Postgres is there.
func (r *run) table(ctx context.Context) ([]workload.Row, error) {
	ctx, cancel := context.WithTimeout(ctx, r.options.Settle)
	defer cancel()
	for {
		err := r.load.Finish(ctx)
		if err == nil {
			var rows []workload.Row
			if rows, err = r.load.Rows(ctx, 0); err == nil {
				return rows, nil
			}
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
}

// settle waits until every client has every row of its user and shows what is
// unread, or until nothing has come for the settle time.
func (r *run) settle(ctx context.Context, table []workload.Row) error {
	for _, c := range r.clients {
		c.expect(table)
	}
	patience := time.NewTimer(r.options.Settle)
	defer patience.Stop()
	for before := -1; ; {
		left := 0
		for _, c := range r.clients {
			left += c.outstanding()
		}
		if left == 0 {
			return nil
		}
		if left != before {
			patience.Reset(r.options.Settle)
			before = left
		}
		select {
		case <-r.changed:
		case <-patience.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// terminate ends server sessions, the gateways' and our own, again and again.
// Only a Postgres that forbids it is an error. ctx has a deadline.
func (r *run) terminate(ctx context.Context) error {
	for tick := time.NewTicker(r.options.Terminate); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return nil
		}
		n, err := r.load.Terminate(ctx, gatewaySessions)
		r.terminated.Add(int64(n))
		if errors.Is(err, workload.ErrForbidden) {
			return fmt.Errorf("--terminate-backends: %w", err)
		}
		// A dial notices the deadline a moment before ctx has ended.
		if end, _ := ctx.Deadline(); err != nil && ctx.Err() == nil && time.Now().Before(end) {
			r.log.Info("terminate failed", "err", err)
		}
	}
}

// progress says once a second how far it is.
func (r *run) progress(ctx context.Context) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var all clientCounts
		left := 0
		for _, c := range r.clients {
			t := c.counted()
			all.Received, all.Connects, all.Resets = all.Received+t.Received, all.Connects+t.Connects, all.Resets+t.Resets
			left += c.outstanding()
		}
		stats := r.load.Stats()
		r.log.Info("progress", "after", time.Since(began).Round(time.Second), "acknowledged", stats.Acknowledged, "received", all.Received,
			"outstanding", left, "connects", all.Connects, "resets", all.Resets, "broken_sessions", stats.Failures, "terminated", r.terminated.Load())
	}
}

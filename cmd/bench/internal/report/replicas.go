package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
	"github.com/seed-64e334f9/notification-gateway/store"
)

// replica is a feed of a gateway without the gateway around it.
type replica struct {
	store *store.Store
	feed  *store.Feed

	mu      sync.Mutex
	rows    int           // guarded by mu
	polls   int           // guarded by mu
	lags    lags          // from capture to the batch's arrival; guarded by mu
	changed chan struct{} // closed and replaced at each batch; guarded by mu
}

// shared is what a number of replicas cost and get.
type shared struct {
	cpu, took time.Duration // of their backends, for the rows at a rate
	polls     int
	exact     bool // every replica got every row once
	lags      lags
	free      float64 // rows a second that writers insert as fast as they can
}

// replicas shows what many replicas cost one Postgres: real feeds, of which
// each listens and polls for itself.
func (r *runner) replicas(ctx context.Context, found *Results) error {
	const rate, writers = 500, 8
	rows := int(rate * r.period(3*time.Second).Seconds())
	var alone float64
	for _, n := range []int{1, 8, 20} {
		s, err := r.empty(ctx)
		if err != nil {
			return err
		}
		var got shared
		err = withReplicas(ctx, s, n, func(all []*replica) (err error) {
			if got, err = r.share(ctx, s, all, rows, rate); err != nil {
				return err
			}
			if got.free, err = pgbench(ctx, s.DatabaseURL, writers); errors.Is(err, errNoPgbench) {
				err = nil
			}
			return err
		})
		if err = errors.Join(err, s.Close()); err != nil {
			return err
		}
		if n == 1 {
			alone = got.free
		}
		share := percent(got.cpu, got.took)
		found.add(fmt.Sprintf("%d replicas, %d rows/s: CPU of their backends", n, rate),
			fmt.Sprintf("%.1f %% of a core, %.2f %% each; %.0f polls/s", share, share/float64(n), float64(got.polls)/got.took.Seconds()), "")
		found.expect("  rows that each replica got, in all", fmt.Sprint(len(got.lags)), fmt.Sprint(n*rows), got.exact)
		found.add("  captured → at the replica, median / p99", got.lags.String(), "")
		if got.free > 0 {
			found.add(fmt.Sprintf("  %d writers as fast as they can", writers), fmt.Sprintf("%.0f rows/s, %.2f × of one replica", got.free, got.free/alone), "")
		}
		if n == 20 {
			found.add(fmt.Sprintf("replicas that one core of Postgres feeds at %d rows/s", rate), fmt.Sprintf("%.0f", float64(n)*100/max(0.1, share)), "")
		}
	}
	return nil
}

// share inserts rows at a rate and waits until every replica has them.
func (r *runner) share(ctx context.Context, s *Environment, all []*replica, rows int, rate float64) (got shared, err error) {
	before, err := backends(ctx, s.db)
	if err != nil {
		return got, err
	}
	began := time.Now()
	w := &writer{db: s.db, statement: InsertSQL, first: 1, users: CRMUsers}
	if err := w.write(ctx, rows, 1, rate, nil); err != nil {
		return got, err
	}
	got.exact = true
	for _, one := range all {
		if err := one.wait(ctx, rows); err != nil {
			return got, err
		}
		one.mu.Lock()
		got.lags = append(got.lags, one.lags...)
		got.polls += one.polls
		got.exact = got.exact && one.rows == rows
		one.mu.Unlock()
	}
	got.took = time.Since(began)
	slices.Sort(got.lags)
	after, err := backends(ctx, s.db)
	got.cpu = after - before
	return got, err
}

// withReplicas runs feeds while do does.
func withReplicas(ctx context.Context, s *Environment, n int, do func([]*replica) error) error {
	running, stop := context.WithCancel(ctx)
	var all []*replica
	var feeds sync.WaitGroup
	defer func() {
		stop()
		feeds.Wait()
		for _, one := range all {
			one.store.Close()
		}
	}()
	for range n {
		one := &replica{changed: make(chan struct{})}
		var err error
		one.store, err = store.Open(ctx, store.Config{
			URL: s.DatabaseURL, Retention: time.Hour, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: store.NewMetrics(prometheus.NewRegistry()),
		})
		if err != nil {
			return err
		}
		all = append(all, one)
		if one.feed, err = store.NewFeed(one.store); err != nil {
			return err
		}
		feeds.Go(func() { one.feed.Run(running, one) }) // it ends with running
	}
	for _, one := range all {
		if err := one.wait(ctx, 0); err != nil {
			return err
		}
	}
	return do(all)
}

// Streams returns 0: no row is loaded.
func (one *replica) Streams() int { return 0 }

// Deliver takes a batch, as the gateway does.
func (one *replica) Deliver(_ context.Context, b store.Batch) error {
	now := time.Now()
	one.mu.Lock()
	defer one.mu.Unlock()
	one.polls++
	one.rows += len(b.Entries)
	for _, e := range b.Entries {
		one.lags = append(one.lags, max(0, now.Sub(e.InsertedAt)))
	}
	close(one.changed)
	one.changed = make(chan struct{})
	return nil
}

// wait returns when the feed has connected and brought that many rows.
func (one *replica) wait(ctx context.Context, rows int) error {
	ctx, cancel := context.WithTimeout(ctx, swarm.StallTimeout)
	defer cancel()
	for {
		one.mu.Lock()
		done, changed := one.polls > 0 && one.rows >= rows, one.changed
		one.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("a replica does not get its rows: %w", context.Cause(ctx))
		}
	}
}

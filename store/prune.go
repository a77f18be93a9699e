package store

import (
	"context"
	"time"
)

const (
	pruneInterval = time.Minute
	pruneBatch    = 5000 // rows in one short transaction
	pruneDeadline = 30 * time.Second
	pruneGrace    = time.Minute // a replay may still read with a cursor that has just expired
)

// Prune removes log rows that no good cursor can need any more, until ctx
// ends, and returns its cause. Every replica runs it; Postgres lets one at a
// time through. A transaction that stays open for longer than the retention
// keeps its rows and all later ones; it is measured, and said in the log.
func (s *Store) Prune(ctx context.Context) error {
	tick := time.NewTicker(pruneInterval)
	defer tick.Stop()
	for warned := false; ; {
		openFor := s.pruneAll(ctx)
		if late := openFor > s.config.Retention; late != warned {
			warned = late
			if late {
				s.config.Logger.Warn("a transaction is open for longer than the retention; the log grows until it ends",
					"open_for", openFor.Round(time.Second).String(), "retention", s.config.Retention.String())
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pruneAll removes batch after batch and returns how long the oldest
// transaction has been open.
func (s *Store) pruneAll(ctx context.Context) (openFor time.Duration) {
	for {
		n, open, err := s.pruneOnce(ctx)
		if err != nil {
			if ctx.Err() == nil && s.server.Load() != nil {
				s.config.Logger.Warn("prune the log", "err", err)
			}
			return openFor
		}
		openFor = open
		s.config.Metrics.pruned.Add(float64(n))
		s.config.Metrics.oldest.Set(open.Seconds())
		if n < pruneBatch {
			return openFor
		}
	}
}

func (s *Store) pruneOnce(ctx context.Context) (removed int, openFor time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, pruneDeadline)
	defer cancel()
	var seconds float64
	err = s.queryRow(ctx, "SELECT removed, extract(epoch FROM open_for)::float8 FROM notification_gateway.prune(make_interval(secs => $1::float8), $2)",
		(s.config.Retention+pruneGrace).Seconds(), pruneBatch).Scan(&removed, &seconds)
	return removed, time.Duration(seconds * float64(time.Second)), err
}

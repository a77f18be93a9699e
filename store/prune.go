package store

import (
	"context"
	"time"
)

const (
	pruneInterval = time.Minute
	pruneBatch    = 5000 // rows in one short transaction
	pruneDeadline = 30 * time.Second
)

// Prune removes log rows older than the retention until ctx ends, and returns
// its cause. Every replica runs it; Postgres lets one at a time through.
func (s *Store) Prune(ctx context.Context) error {
	tick := time.NewTicker(pruneInterval)
	defer tick.Stop()
	for {
		for {
			n, err := s.pruneOnce(ctx)
			if err != nil && ctx.Err() == nil && s.server.Load() != nil {
				s.config.Logger.Warn("prune the log", "err", err)
			}
			s.config.Metrics.pruned.Add(float64(n))
			if err != nil || n < pruneBatch {
				break
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Store) pruneOnce(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, pruneDeadline)
	defer cancel()
	err = s.pool.QueryRow(ctx, "SELECT notification_gateway.prune(make_interval(secs => $1), $2)", s.config.Retention.Seconds(), pruneBatch).Scan(&n)
	return n, err
}

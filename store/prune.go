package store

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	pruneInterval = time.Minute
	pruneBatch    = 5000 // rows in one short transaction
	pruneDeadline = 30 * time.Second
	pruneGrace    = time.Minute      // a replay may still read with a cursor that has just expired
	pruneBehind   = 10 * time.Minute // a row that is still there so long after it was due: pruning has fallen behind
	pruneReport   = 10 * time.Second // between two looks at how far it is while rows are removed
)

// pruning says how far behind pruning is.
type pruning struct {
	mu     sync.Mutex
	behind error // nil while it keeps up; guarded by mu
}

// PruneBehind returns nil while pruning keeps up, else how far it has fallen
// behind. The log grows then, and loses nothing.
func (s *Store) PruneBehind() error {
	s.pruning.mu.Lock()
	defer s.pruning.mu.Unlock()
	return s.pruning.behind
}

// Prune removes log rows that no good cursor can need any more, until ctx
// ends, and returns its cause. Every replica runs it; Postgres lets one at a
// time through. A transaction that stays open for longer than the retention
// keeps its rows and all later ones; it is measured, and said in the log.
func (s *Store) Prune(ctx context.Context) error {
	tick := time.NewTicker(pruneInterval)
	defer tick.Stop()
	for warned := false; ; {
		openFor := s.pruneAll(ctx)
		s.reportDue(ctx)
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
// transaction has been open. After each batch it waits for as long as the batch
// took, so that the CRM and the feed get their turn.
func (s *Store) pruneAll(ctx context.Context) (openFor time.Duration) {
	defer s.reportPruning(ctx)
	reported := time.Time{}
	for {
		if time.Since(reported) >= pruneReport {
			s.reportPruning(ctx)
			reported = time.Now()
		}
		began := time.Now()
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
		if rest(ctx, time.Since(began)) != nil {
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

// oldestRowSQL asks for the age of the log's first row. What was pruned is passed
// over, so that no dead rows are read.
const oldestRowSQL = `SELECT coalesce((SELECT extract(epoch FROM clock_timestamp() - l.inserted_at)::float8 FROM notification_gateway.log l
  WHERE l.xid >= coalesce(notification_gateway.pruned_below(), '0') AND isfinite(l.inserted_at) ORDER BY l.xid, l.position LIMIT 1), 0)`

// reportPruning measures how old the log's first row is, and notes whether
// pruning has fallen behind.
func (s *Store) reportPruning(ctx context.Context) {
	server := s.server.Load()
	if server == nil || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pruneDeadline)
	defer cancel()
	var seconds float64
	if err := s.queryRow(ctx, server.spell(oldestRowSQL)).Scan(&seconds); err != nil {
		return // what removes rows says why Postgres cannot be asked
	}
	s.config.Metrics.oldestRow.Set(seconds)
	var behind error
	age := time.Duration(seconds * float64(time.Second))
	if age > s.config.Retention+pruneGrace+pruneBehind {
		behind = fmt.Errorf("pruning has fallen behind: the log's first row is %v old, and the retention is %v; see log_rows_pruned_total and oldest_transaction_seconds",
			age.Round(time.Second), s.config.Retention)
	}
	s.pruning.mu.Lock()
	defer s.pruning.mu.Unlock()
	if behind != nil && s.pruning.behind == nil {
		s.config.Logger.Warn("prune the log", "err", behind)
	}
	s.pruning.behind = behind
}

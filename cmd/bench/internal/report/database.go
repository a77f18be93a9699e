package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/proc"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// statementsSQL counts what a gateway has asked: polls of the log, those of them
// that bring their rows in full, loads of others, the full rows of both (a poll
// has a row more), and everything but what we ask (a foreign key's check is a
// statement too).
const statementsSQL = `SELECT
  coalesce(sum(calls) FILTER (WHERE poll), 0)::bigint,
  coalesce(sum(calls) FILTER (WHERE poll AND whole), 0)::bigint,
  coalesce(sum(calls) FILTER (WHERE whole AND NOT poll), 0)::bigint,
  coalesce(sum(rows) FILTER (WHERE whole), 0)::bigint - coalesce(sum(calls) FILTER (WHERE poll AND whole), 0)::bigint,
  coalesce(sum(calls) FILTER (WHERE query NOT LIKE 'INSERT INTO notifications%' AND query NOT LIKE '%pg_stat_%' AND query NOT LIKE '%FOR KEY SHARE%'), 0)::bigint
FROM (SELECT *, query LIKE '%notification_gateway.log WHERE NOT%' AS poll, query LIKE '%FROM notification_gateway.feed%' AS whole FROM pg_stat_statements) s
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())`

// database is what the gateway costs Postgres.
func (r *runner) database(ctx context.Context, found *Results) (err error) {
	if err := r.countStatements(ctx); err != nil {
		found.add("not measured: "+err.Error(), "", "")
		return nil
	}
	s, err := r.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.db.Exec(ctx, "CREATE EXTENSION pg_stat_statements"); err != nil {
		return fmt.Errorf("count statements: %w", err)
	}
	n := r.most(1000)
	w := &writer{db: s.db, statement: InsertSQL, first: 1, users: n, filling: 200}
	rows := r.scaled(1000)
	if err := r.ask(ctx, found, s, w, "nobody connected, 200 rows/s", rows, 1, 200, false); err != nil {
		return err
	}
	tokens, err := mintTokens(r.secret, 1, n)
	if err != nil {
		return err
	}
	c, err := r.openStreams(ctx, s.Target(), n, tokens)
	if err != nil {
		return err
	}
	defer c.Stop()
	if err := r.ask(ctx, found, s, w, fmt.Sprintf("%d connected, 200 rows/s", n), rows, 1, 200, true); err != nil {
		return err
	}
	return r.ask(ctx, found, s, w, fmt.Sprintf("%d connected, 2000 rows/s in transactions of 20", n), 10*rows, 20, 2000, true)
}

// countStatements loads pg_stat_statements, for which the server must be
// started anew.
func (r *runner) countStatements(ctx context.Context) error {
	db, err := throwaway.Open(ctx, r.server.URL)
	if err != nil {
		return err
	}
	defer db.Close()
	var available int
	if err := db.QueryRow(ctx, []any{&available}, "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements'"); err != nil {
		return err
	}
	if available == 0 {
		return errors.New("this Postgres has no pg_stat_statements")
	}
	if err := db.Exec(ctx, "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'"); err != nil {
		return err
	}
	db.Close()
	if err := r.server.Crash(); err != nil {
		return err
	}
	return r.server.Restart(ctx)
}

// ask inserts rows and says what the gateway has asked because of them.
func (r *runner) ask(ctx context.Context, found *Results, s *Environment, w *writer, what string, rows, burst int, rate float64, loaded bool) error {
	before, err := s.metrics(ctx)
	if err != nil {
		return err
	}
	if err := s.db.Exec(ctx, "SELECT pg_stat_statements_reset()"); err != nil {
		return fmt.Errorf("count statements: %w", err)
	}
	cpu, err := backends(ctx, s.db)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := w.write(ctx, rows, burst, rate, nil); err != nil {
		return err
	}
	var m map[string]float64
	err = s.until(ctx, func(now map[string]float64) bool {
		m = now
		return now["feed_batch_rows_sum"] >= before["feed_batch_rows_sum"]+float64(rows)
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	used, err := backends(ctx, s.db)
	if err != nil {
		return err
	}
	var polls, whole, loads, full, all int64
	if err := s.db.QueryRow(ctx, []any{&polls, &whole, &loads, &full, &all}, statementsSQL); err != nil {
		return fmt.Errorf("count statements: %w", err)
	}
	var wakes float64
	for _, source := range []string{"notify", "poll", "more", "timeout", "settle", "reconnect"} {
		name := fmt.Sprintf("feed_wakes_total{source=%q}", source)
		wakes += m[name] - before[name]
	}
	found.add(what+": queries for each row, each wake", fmt.Sprintf("%.2f, %.2f (%d polls, %d of them with their rows, %d loads, %d others)",
		float64(all)/float64(rows), float64(all)/max(1, wakes), polls, whole, loads, all-polls-loads), "")
	found.add("  CPU of the gateway's backends", fmt.Sprintf("%.0f µs a row, %.1f %% of a core", micro(used-cpu)/float64(rows), percent(used-cpu, took)), "")
	if want := int64(rows); loaded {
		// What a poll brings beyond its limit comes again.
		most := want + want/50
		found.expect("  full rows loaded", fmt.Sprintf("%d for %d", full, want), fmt.Sprintf("≤ %d", most), full >= want && full <= most)
	} else {
		found.expect("  full rows loaded", fmt.Sprintf("%d for %d", full, want), "0", full == 0)
	}
	return nil
}

// backends is the CPU that the server's processes for gateways have used, where
// they run on this machine.
func backends(ctx context.Context, db *throwaway.DB) (time.Duration, error) {
	var pids []int32
	if err := db.QueryRow(ctx, []any{&pids}, `SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity
		WHERE application_name = 'notification_gateway' AND datname = current_database()`); err != nil {
		return 0, fmt.Errorf("find the gateway's backends: %w", err)
	}
	var sum time.Duration
	for _, pid := range pids {
		used, err := proc.CPU(int(pid))
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

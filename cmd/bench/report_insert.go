package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"

	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const (
	insertRounds = 5 // in which all ways take turns
	insertWarm   = 8 // seconds until the sessions have touched what they need
)

// insertWay is one way of inserting that is compared with the first.
type insertWay struct {
	name          string
	before, after string // statements around it
	stream        bool   // somebody is connected and gets every row
}

// insertWays need a gateway that runs. Whoever holds a slot of the doorbell
// exclusively makes every writer ring, as a plain NOTIFY trigger does.
func insertWays() []insertWay {
	return []insertWay{
		{"plain", "ALTER TABLE notifications DISABLE TRIGGER notification_gateway_capture", "ALTER TABLE notifications ENABLE ALWAYS TRIGGER notification_gateway_capture", false},
		{"captured, nobody connected", "SELECT", "SELECT", false},
		{"captured and delivered", "SELECT", "SELECT", true},
		{"where every commit notifies", "SELECT notification_gateway.mind(), pg_advisory_lock(1734440037, 8)", "SELECT notification_gateway.wake(8)", false},
	}
}

// insert is what the trigger costs the CRM: single-row transactions of 1, 8 and
// 32 writers, with no flush and with one of at least 1 ms, which is this disk's
// and commit_delay's (https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-COMMIT-DELAY).
// Each way is given as a share of the first: the median of the rounds. Where
// the CPU is what limits, the gateway's own is part of it. The server keeps its WAL
// files, as one that has run for long does, and the writers their sessions: making
// them costs most who writes most.
func (r *runner) insert(ctx context.Context, found *results) (err error) {
	if os.Getenv("DATABASE_URL") != "" {
		found.add("not measured: it changes settings of the whole server, so not on the one that DATABASE_URL names", "", "")
		return nil
	}
	if _, err := exec.LookPath("pgbench"); err != nil {
		found.add("not measured: "+errNoPgbench.Error(), "", "")
		return nil
	}
	s, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, flush := range []int{0, 1000} {
		for _, statement := range []string{
			fmt.Sprintf("ALTER SYSTEM SET fsync = %t", flush > 0), fmt.Sprintf("ALTER SYSTEM SET commit_delay = %d", flush),
			"ALTER SYSTEM SET commit_siblings = 0", "ALTER SYSTEM SET min_wal_size = '2GB'", "ALTER SYSTEM SET max_wal_size = '4GB'", "SELECT pg_reload_conf()",
		} {
			if err := s.db.Exec(ctx, statement); err != nil {
				return fmt.Errorf("change the server's settings: %w", err)
			}
		}
		flushed, target, most := "no flush", "≥ 0.65 ×", 0.65
		if flush > 0 {
			flushed, target, most = "flush", "≥ 0.9 ×", 0.9
		}
		for _, writers := range []int{1, 8, 32} {
			shares, plain, err := r.insertShares(ctx, s, writers)
			if err != nil {
				return err
			}
			for i, way := range insertWays()[1:] {
				what := fmt.Sprintf("%s, %d writers, %s", flushed, writers, way.name)
				value, floor := fmt.Sprintf("%.2f ×", shares[i]), fmt.Sprintf("plain %.0f rows/s", plain)
				if i+2 == len(insertWays()) {
					found.add(what, value, floor) // what the doorbell is for
				} else {
					found.check(what, value, floor, target, shares[i] >= most)
				}
			}
		}
	}
	for _, name := range []string{"fsync", "commit_delay", "commit_siblings", "min_wal_size", "max_wal_size"} {
		if err := s.db.Exec(ctx, "ALTER SYSTEM RESET "+name); err != nil {
			return fmt.Errorf("change the server's settings: %w", err)
		}
	}
	return s.db.Exec(ctx, "SELECT pg_reload_conf()")
}

// insertShares returns each way's rate but the first's as a share of that.
func (r *runner) insertShares(ctx context.Context, s *site, writers int) (shares []float64, plain float64, err error) {
	p, err := startInserters(ctx, s.dbURL, writers)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if _, err := p.rate(ctx, 1, int(insertWarm*r.scale)); err != nil {
		return nil, 0, err
	}
	ways := insertWays()
	rates := make([][]float64, len(ways))
	for round := range max(1, int(insertRounds*r.scale)) {
		for turn := range ways {
			i := (turn + round) % len(ways)
			rate, err := r.insertWay(ctx, s, ways[i], p)
			if err != nil {
				return nil, 0, err
			}
			rates[i] = append(rates[i], rate)
		}
	}
	for _, of := range rates {
		slices.Sort(of)
		shares = append(shares, of[len(of)/2])
	}
	plain = shares[0]
	for i := range shares {
		shares[i] /= plain
	}
	return shares[1:], plain, nil
}

// insertWay measures one way once, while p inserts.
func (r *runner) insertWay(ctx context.Context, s *site, way insertWay, p *inserters) (rate float64, err error) {
	if way.stream {
		tokens, err := mintTokens(r.secret, 1, pgbenchUsers)
		if err != nil {
			return 0, err
		}
		c, err := r.crowd(ctx, s.target(), pgbenchUsers, tokens)
		if err != nil {
			return 0, err
		}
		defer c.stop()
	}
	one, err := throwaway.Listen(ctx, s.dbURL, "bench_session") // advisory locks are a session's
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, one.Close(context.WithoutCancel(ctx))) }()
	// Each begins with the same tables, and with nothing left to be written to the
	// disk: a log that grew from way to way, and checkpoints of what the one before
	// had written, made the later ones slower. One by one, because the gateway reads
	// both tables.
	for _, statement := range []string{"TRUNCATE notification_gateway.log", "TRUNCATE notifications", "CHECKPOINT", way.before} {
		if err := one.Exec(ctx, statement); err != nil {
			return 0, err
		}
	}
	rate, err = p.rate(ctx, max(1, int(2*r.scale)), int(1*r.scale)) // at first a gateway that sleeps is yet to find out that it is busy
	return rate, errors.Join(err, one.Exec(ctx, way.after))
}

package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/proc"
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
	notifies      bool   // each commit notifies, which the gateway avoids
}

// inserted is how fast one way was once.
type inserted struct {
	rate             float64 // rows a second
	gateway, clients float64 // per cent of a core, where somebody is connected
}

// insertWays need a running gateway. In the last one a session of ours holds a
// slot as a sleeping gateway does, so that every commit notifies, as with a plain
// NOTIFY trigger.
func insertWays() []insertWay {
	return []insertWay{
		{name: "plain", before: "ALTER TABLE notifications DISABLE TRIGGER notification_gateway_capture", after: "ALTER TABLE notifications ENABLE ALWAYS TRIGGER notification_gateway_capture"},
		{name: "captured, nobody connected", before: "SELECT", after: "SELECT"},
		{name: "captured and delivered", before: "SELECT", after: "SELECT", stream: true},
		{name: "where every commit notifies", before: "SELECT notification_gateway.mind(), pg_advisory_lock(1734440037, 8)", after: "SELECT notification_gateway.wake(8)", notifies: true},
	}
}

// insert measures what the trigger costs the CRM, with single-row transactions of
// 1, 8 and 32 writers. Commits wait for no flush, and then for one of at least 1 ms:
// this disk's and commit_delay's (https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-COMMIT-DELAY).
// Writers send what Django sends, and then the least that can be sent. Each way is
// given as a share of the first, by the median of the rounds. Where the CPU is the
// limit, the gateway's CPU counts too. The server keeps its WAL files and the
// writers keep their sessions, as after a long time of running: making new ones
// costs most in the way that writes most.
func (r *runner) insert(ctx context.Context, found *Results) (err error) {
	if os.Getenv("DATABASE_URL") != "" {
		found.add("not measured: it changes settings of the whole server, so not on the one that DATABASE_URL names", "", "")
		return nil
	}
	if _, err := exec.LookPath("pgbench"); err != nil {
		found.add("not measured: "+errNoPgbench.Error(), "", "")
		return nil
	}
	s, err := r.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, flush := range []int{0, 1000} {
		for _, statement := range []string{
			fmt.Sprintf("ALTER SYSTEM SET fsync = %t", flush > 0), fmt.Sprintf("ALTER SYSTEM SET commit_delay = %d", flush),
			"ALTER SYSTEM SET commit_siblings = 0", "ALTER SYSTEM SET min_wal_size = '2GB'", "ALTER SYSTEM SET max_wal_size = '4GB'", "SELECT pg_reload_conf()",
		} {
			if err := s.db.Exec(ctx, statement); err != nil {
				return fmt.Errorf("change the server's settings: %w", err)
			}
		}
		flushed, target := "no flush", 0.65
		if flush > 0 {
			flushed, target = "flush", 0.9
		}
		for _, writers := range []int{1, 8, 32} {
			django := insertCase{flushed: flushed, writers: writers, how: asDjango, ways: insertWays(), target: target}
			if err := r.insertBy(ctx, found, s, django); err != nil {
				return err
			}
		}
		prepared := insertCase{flushed: flushed, writers: 8, how: asPrepared, ways: insertWays()[:2]}
		if err := r.insertBy(ctx, found, s, prepared); err != nil {
			return err
		}
	}
	for _, name := range []string{"fsync", "commit_delay", "commit_siblings", "min_wal_size", "max_wal_size"} {
		if err := s.db.Exec(ctx, "ALTER SYSTEM RESET "+name); err != nil {
			return fmt.Errorf("change the server's settings: %w", err)
		}
	}
	return s.db.Exec(ctx, "SELECT pg_reload_conf()")
}

// insertCase is what is measured in one run of the writers.
type insertCase struct {
	flushed string
	writers int
	how     sending
	ways    []insertWay // of which the first is the floor
	target  float64     // for the share of ours; zero: none
}

// insertBy measures the ways in turns, and adds what their medians are.
func (r *runner) insertBy(ctx context.Context, found *Results, s *Environment, c insertCase) (err error) {
	p, err := startInserters(ctx, s.DatabaseURL, c.writers, c.how)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if _, err := p.rate(ctx, 1, int(insertWarm*r.scale)); err != nil {
		return err
	}
	turns := make([][]inserted, len(c.ways))
	for round := range max(1, int(insertRounds*r.scale)) {
		for turn := range c.ways {
			i := (turn + round) % len(c.ways)
			one, err := r.insertWay(ctx, s, c.ways[i], p)
			if err != nil {
				return err
			}
			turns[i] = append(turns[i], one)
		}
	}
	var plain float64
	for i, way := range c.ways {
		slices.SortFunc(turns[i], func(a, b inserted) int { return cmp.Compare(a.rate, b.rate) })
		median := turns[i][len(turns[i])/2]
		if i == 0 {
			plain = median.rate
			continue
		}
		what := fmt.Sprintf("%s, %d writers, %s%s", c.flushed, c.writers, c.how.name, way.name)
		share := median.rate / plain
		value, floor := fmt.Sprintf("%.2f ×", share), fmt.Sprintf("plain %.0f rows/s", plain)
		if c.target == 0 || way.notifies {
			found.add(what, value, floor)
		} else {
			found.check(what, value, floor, fmt.Sprintf("≥ %g ×", c.target), share >= c.target)
		}
		if way.stream {
			found.add(fmt.Sprintf("  of one core: gateway %.0f %%, clients %.0f %%", median.gateway, median.clients), "", "")
		}
	}
	return nil
}

// insertWay measures one way once, while p inserts.
func (r *runner) insertWay(ctx context.Context, s *Environment, way insertWay, p *inserters) (got inserted, err error) {
	clients := func() time.Duration { return 0 }
	if way.stream {
		tokens, err := mintTokens(r.secret, 1, pgbenchUsers)
		if err != nil {
			return got, err
		}
		c, err := r.openStreams(ctx, s.Target(), pgbenchUsers, tokens)
		if err != nil {
			return got, err
		}
		defer c.Stop()
		clients = c.CPU
	}
	one, err := throwaway.Listen(ctx, s.DatabaseURL, "bench_session") // advisory locks are a session's
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, one.Close(context.WithoutCancel(ctx))) }()
	// Each begins with the same tables, and with nothing left to be written to the
	// disk: a log that grew from way to way, and checkpoints of what the one before
	// had written, made the later ones slower. One by one, because the gateway reads
	// both tables.
	for _, statement := range []string{"TRUNCATE notification_gateway.log", "TRUNCATE notifications", "CHECKPOINT", way.before} {
		if err := one.Exec(ctx, statement); err != nil {
			return got, err
		}
	}
	if _, err := p.rate(ctx, 1, 0); err != nil { // at first a gateway that sleeps is yet to find out that it is busy
		return got, err
	}
	began, reading := time.Now(), clients()
	before, err := proc.CPU(s.PID())
	if err != nil {
		return got, err
	}
	if got.rate, err = p.rate(ctx, max(1, int(2*r.scale)), 0); err != nil {
		return got, err
	}
	took := time.Since(began)
	after, err := proc.CPU(s.PID())
	got.gateway, got.clients = percent(after-before, took), percent(clients()-reading, took)
	return got, errors.Join(err, one.Exec(ctx, way.after))
}

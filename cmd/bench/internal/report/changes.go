package report

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/proc"
	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
	"github.com/seed-64e334f9/notification-gateway/cmd/internal/process"
)

const (
	changeWriters = 8
	markedRows    = 10_000
)

// attachWay is one way of attaching the CRM's table, nil for not at all.
type attachWay struct {
	name string
	args []string
}

// attachWays are no trigger at all, which is the floor, the trigger alone, and
// the trigger with each option.
func attachWays() []attachWay {
	return []attachWay{
		{"plain", nil},
		{"attached", []string{}},
		{"--on-update is_read --on-delete", []string{"--on-update", "is_read", "--on-delete"}},
		{"--when", []string{"--when", "NEW.title <> ''"}},
		{"--due-column", []string{"--due-column", "read_at"}},
	}
}

// changes is what the options of attach cost the CRM, what marking many rows as
// read costs while streams follow changes, and what such a stream costs.
func (r *runner) changes(ctx context.Context, found *Results) error {
	for _, part := range []func(context.Context, *Results) error{r.attachRates, r.markMany, r.askingStreams} {
		if err := part(ctx, found); err != nil {
			return err
		}
	}
	return nil
}

// attach puts the trigger on, or takes it off.
func (r *runner) attach(ctx context.Context, s *Environment, way attachWay) error {
	args := append([]string{"attach", "public.notifications"}, way.args...)
	if way.args == nil {
		args = []string{"detach", "public.notifications"}
	}
	return process.Run(ctx, r.binary, append(os.Environ(), "DATABASE_URL="+s.DatabaseURL), args...)
}

// attachRates compares what writers reach in each way. A gateway runs and nobody
// is connected. The ways take turns, and the median counts.
func (r *runner) attachRates(ctx context.Context, found *Results) error {
	for _, c := range []struct {
		what string
		how  sending
		ways []attachWay
	}{
		{"INSERT", asDjango, attachWays()},
		{"UPDATE of is_read", asMarking, attachWays()[:3]},
	} {
		rates, err := r.attachTurns(ctx, c.how, c.ways)
		if errors.Is(err, errNoPgbench) {
			found.add("not measured: "+err.Error(), "", "")
			return nil
		}
		if err != nil {
			return err
		}
		for i, way := range c.ways[1:] {
			found.add(fmt.Sprintf("%s, %d writers, %s", c.what, changeWriters, way.name),
				fmt.Sprintf("%.2f ×", rates[i+1]/rates[0]), fmt.Sprintf("plain %.0f rows/s", rates[0]))
		}
	}
	return nil
}

// attachTurns returns the median rate of each way.
func (r *runner) attachTurns(ctx context.Context, how sending, ways []attachWay) (medians []float64, err error) {
	s, err := r.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	p, err := startInserters(ctx, s.DatabaseURL, changeWriters, how)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if _, err := p.rate(ctx, 1, int(insertWarm*r.scale)); err != nil {
		return nil, err
	}
	turns := make([][]float64, len(ways))
	for round := range r.scaled(rounds) {
		for turn := range ways {
			i := (turn + round) % len(ways)
			if err := r.attach(ctx, s, ways[i]); err != nil {
				return nil, err
			}
			rate, err := p.rate(ctx, max(1, int(3*r.scale)), 1)
			if err != nil {
				return nil, err
			}
			turns[i] = append(turns[i], rate)
		}
	}
	for _, rates := range turns {
		slices.Sort(rates)
		medians = append(medians, rates[len(rates)/2])
	}
	return medians, nil
}

// markMany marks many rows as read with one statement while streams that follow
// changes are open: all rows of one user, for which one refresh stands, and ten
// rows of each of many users, each of which is told.
func (r *runner) markMany(ctx context.Context, found *Results) (err error) {
	users := r.most(1000)
	// A user may have 100 changes in a transaction before a refresh stands for them.
	each := min(100, max(r.scaled(markedRows)/users, 200/users, 1))
	rows := users * each
	s, err := r.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	m := marker{s: s, rows: rows}
	ways := attachWays()[:3]
	took := make([]time.Duration, len(ways))
	for i, way := range ways {
		if err := r.attach(ctx, s, way); err != nil {
			return err
		}
		var all []time.Duration
		for range rounds {
			if err := m.insert(ctx, "1"); err != nil {
				return err
			}
			one, err := m.mark(ctx)
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		slices.Sort(all)
		took[i] = all[len(all)/2]
	}
	for i, way := range ways[1:] {
		found.add(fmt.Sprintf("UPDATE of %d rows of one user, %s", rows, way.name), short(took[i+1]), "plain "+short(took[0]))
	}
	tokens, err := mintTokens(r.secret, 1, users)
	if err != nil {
		return err
	}
	// The events of one kind are counted by each group of streams.
	for _, c := range []struct{ what, user, event string }{
		{"of one user", "1", "refresh"},
		{fmt.Sprintf("of %d users", users), fmt.Sprintf("1 + i %% %d", users), "updated"},
	} {
		want := int64(1)
		if c.event == "updated" {
			want = int64(rows)
		}
		if err := m.insertSeen(ctx, c.user); err != nil {
			return err
		}
		if err := r.markWatched(ctx, found, m, c.event, tokens, want, fmt.Sprintf("%d rows %s marked, %d streams", rows, c.what, users)); err != nil {
			return err
		}
	}
	return nil
}

// marker inserts rows and marks them as read.
type marker struct {
	s    *Environment
	rows int
}

// insert inserts unread rows, for the users that an expression over i names, in
// place of those of before.
func (m marker) insert(ctx context.Context, user string) error {
	for _, statement := range []string{
		"DELETE FROM notifications WHERE title = 'mark'",
		fmt.Sprintf("INSERT INTO notifications (user_id, notification_type, title, message) SELECT %s, 'bench', 'mark', 'm' FROM generate_series(0, %d) i", user, m.rows-1),
	} {
		if err := m.s.db.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// insertSeen waits until the gateway has seen the rows too.
func (m marker) insertSeen(ctx context.Context, user string) error {
	before, err := m.s.metrics(ctx)
	if err != nil {
		return err
	}
	if err := m.insert(ctx, user); err != nil {
		return err
	}
	return m.s.until(ctx, func(now map[string]float64) bool {
		return now["feed_batch_rows_sum"] >= before["feed_batch_rows_sum"]+float64(m.rows)
	})
}

// mark marks all rows as read, and says how long the statement took.
func (m marker) mark(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	err := m.s.db.Exec(ctx, "UPDATE notifications SET is_read = true, read_at = now() WHERE title = 'mark'")
	return time.Since(began), err
}

// markWatched opens streams that follow changes, marks rows, and waits for the
// events of one kind.
func (r *runner) markWatched(ctx context.Context, found *Results, m marker, event string, tokens []string, want int64, what string) error {
	t := m.s.Target()
	t.URL.RawQuery, t.Counted = "changes=true", event
	streams, err := r.openStreams(ctx, t, len(tokens), tokens)
	if err != nil {
		return err
	}
	defer streams.Stop()
	before, err := proc.CPU(m.s.PID())
	if err != nil {
		return err
	}
	began := time.Now()
	took, err := m.mark(ctx)
	if err != nil {
		return err
	}
	got, err := streams.Wait(ctx, "receive changes", func(c swarm.Counts) bool { return c.Events[swarm.Notification] >= want })
	if err != nil {
		return err
	}
	all := time.Since(began)
	after, err := proc.CPU(m.s.PID())
	if err != nil {
		return err
	}
	found.add(what+": the UPDATE; until the last event is read", short(took)+"; "+short(all), "")
	found.add("  CPU of the gateway meanwhile", short(after-before), "")
	found.expect("  rows told by the event "+event, fmt.Sprint(got.Events[swarm.Notification]), fmt.Sprint(want), got.Events[swarm.Notification] == want)
	return nil
}

// askingStreams is the memory of idle streams by what they ask for.
func (r *runner) askingStreams(ctx context.Context, found *Results) error {
	n := r.most(5000)
	tokens, err := mintTokens(r.secret, 1, n)
	if err != nil {
		return err
	}
	for _, query := range []string{"", "changes=true", "changes=true&count=true"} {
		if err := r.askingStream(ctx, found, n, tokens, query); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) askingStream(ctx context.Context, found *Results, n int, tokens []string, query string) (err error) {
	s, err := r.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	t := s.Target()
	t.URL.RawQuery = query
	g, err := r.grow(ctx, t, s.PID(), n, tokens, func() error { return s.collect(ctx) })
	if err != nil {
		return err
	}
	g.pool.Stop()
	if query == "" {
		query = "no option"
	}
	found.add(fmt.Sprintf("%d idle streams, %s: RSS for each", n, query), fmt.Sprintf("%.2f KB", g.rss/1024), "")
	return nil
}

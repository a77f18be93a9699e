package report

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/proc"
	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
)

// stormInFlight is just below the usual backlog of a listening socket (4,096):
// past it the kernel drops handshakes, which would spread the reconnects out.
const stormInFlight = 4000

// outcome is what one storm cost.
type outcome struct {
	cpu, took time.Duration
	peak      int64 // bytes of the gateway's resident memory
}

// storm cuts all streams at once and brings them back with their last event IDs.
//
// What a storm costs without authentication cannot be had from this gateway,
// which has no such mode. The baseline is a gateway with HS256 tokens that are
// all remembered: a hash and a swarm.PollInterval-up for each, the least that any request
// costs here.
func (r *runner) storm(ctx context.Context, found *Results) error {
	n := r.most(10_000)
	i, err := startIssuer()
	if err != nil {
		return err
	}
	defer i.stop()
	r.say("signing %d tokens", n)
	signed, err := i.tokens(1, n)
	if err != nil {
		return err
	}
	shared, err := mintTokens(r.secret, 1, n)
	if err != nil {
		return err
	}
	base, err := r.storms(ctx, shared, nil)
	if err != nil {
		return err
	}
	after := &Results{section: found.section}
	rs256, err := r.storms(ctx, signed, after, "GATEWAY_JWKS_URL="+i.url)
	if err != nil {
		return err
	}
	each := func(d time.Duration) string { return fmt.Sprintf("%.0f µs", micro(d)/float64(n)) }
	least := each(base.seen.cpu) + " with seen HS256"
	ratio := float64(rs256.seen.cpu) / float64(base.seen.cpu)
	found.check(fmt.Sprintf("%d reconnects, RS256, tokens seen: CPU for each", n), fmt.Sprintf("%s, %.2f ×", each(rs256.seen.cpu), ratio), least, "≤ 1.15 ×", ratio <= 1.15)
	ratio = float64(rs256.unseen.cpu) / float64(base.seen.cpu)
	found.check(fmt.Sprintf("%d reconnects, RS256, tokens not seen: CPU for each", n), fmt.Sprintf("%s, %.2f ×", each(rs256.unseen.cpu), ratio), least, "≤ 3 ×", ratio <= 3)
	found.add("  until all are back, seen / not seen", fmt.Sprintf("%s / %s", short(rs256.seen.took), short(rs256.unseen.took)), short(base.seen.took))
	peak := float64(max(rs256.unseen.peak, rs256.seen.peak)-rs256.idle) / float64(n) / 1024
	found.check("peak of memory in these storms, for each stream above idle", fmt.Sprintf("%.1f KB", peak), "", "≤ 3 KB", peak <= 3)
	found.Lines = append(found.Lines, after.Lines...)
	return nil
}

// storms is what a gateway's storms cost, before and after it had seen the
// tokens.
type storms struct {
	unseen, seen outcome
	idle         int64 // bytes of resident memory with all streams open
}

// storms lets one storm come with tokens that the gateway has not seen and
// three with the same again, which are averaged. A storm with missed rows
// follows, whose results go to found, unless that is nil.
func (r *runner) storms(ctx context.Context, tokens []string, found *Results, env ...string) (all storms, err error) {
	n := len(tokens)
	// The streams get their first cursors with one token that all share.
	s, err := r.Open(ctx, append(env, "GATEWAY_MAX_STREAMS_PER_USER="+strconv.Itoa(n))...)
	if err != nil {
		return all, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	one, err := mintTokens(r.secret, CRMUsers, 1)
	if err != nil {
		return all, err
	}
	c, err := swarm.Start(s.Target(), n, stormInFlight)
	if err != nil {
		return all, err
	}
	defer c.Stop()
	if err := c.Open(n, one, false); err != nil {
		return all, err
	}
	if _, err := c.Wait(ctx, "open streams", swarm.AllOpen); err != nil {
		return all, err
	}
	if err := s.collect(ctx); err != nil {
		return all, err
	}
	if all.idle, _, err = r.settled(ctx, s.PID()); err != nil {
		return all, err
	}
	if all.unseen, err = cutAndResume(ctx, s, c, n, tokens); err != nil {
		return all, err
	}
	const again = 3
	for range again {
		o, err := cutAndResume(ctx, s, c, n, nil)
		if err != nil {
			return all, err
		}
		all.seen.cpu += o.cpu / again
		all.seen.took += o.took / again
		all.seen.peak = max(all.seen.peak, o.peak)
	}
	if found == nil {
		return all, nil
	}
	return all, stormWithMissedRows(ctx, found, s, c, n)
}

// cutAndResume cuts all streams, lets the feed move on, and brings them back.
func cutAndResume(ctx context.Context, s *Environment, c *swarm.Pool, n int, tokens []string) (o outcome, err error) {
	w := &writer{db: s.db, statement: InsertSQL, first: CRMUsers, users: 1} // a user who has no stream any more
	if err := cut(ctx, s, c, n, w, 1); err != nil {
		return o, err
	}
	if err := proc.ResetPeak(s.PID()); err != nil {
		return o, err
	}
	began := time.Now()
	before, err := proc.CPU(s.PID())
	if err != nil {
		return o, err
	}
	if err := c.Resume(tokens); err != nil {
		return o, err
	}
	if _, err := c.Wait(ctx, "come back", swarm.AllOpen); err != nil {
		return o, err
	}
	o.took = time.Since(began)
	after, err := proc.CPU(s.PID())
	if err != nil {
		return o, err
	}
	o.cpu = after - before
	o.peak, err = proc.Memory(s.PID(), "VmHWM")
	return o, err
}

// cut cuts the streams, inserts rows while nobody is there, and waits until the
// gateway knows of both.
func cut(ctx context.Context, s *Environment, c *swarm.Pool, n int, w *writer, rows int) error {
	before, err := s.metrics(ctx)
	if err != nil {
		return err
	}
	if err := c.Drop(n); err != nil {
		return err
	}
	if err := s.until(ctx, func(m map[string]float64) bool { return m["streams"] == 0 }); err != nil {
		return err
	}
	if err := w.write(ctx, rows, burst, 1e9, nil); err != nil {
		return err
	}
	want := before["feed_batch_rows_sum"] + float64(rows)
	return s.until(ctx, func(m map[string]float64) bool { return m["feed_batch_rows_sum"] >= want })
}

// stormWithMissedRows is one more storm, in which every tenth user has missed a row.
func stormWithMissedRows(ctx context.Context, found *Results, s *Environment, c *swarm.Pool, n int) error {
	rows := max(1, n/10)
	had, err := c.Count()
	if err != nil {
		return err
	}
	w := &writer{db: s.db, statement: InsertSQL, first: 1, users: n}
	if err := cut(ctx, s, c, n, w, rows); err != nil {
		return err
	}
	if err := c.Resume(nil); err != nil {
		return err
	}
	want := had.Events[swarm.Notification] + int64(rows)
	got, err := c.Wait(ctx, "receive what was missed", func(n swarm.Counts) bool { return swarm.AllOpen(n) && n.Events[swarm.Notification] >= want })
	if err != nil {
		return err
	}
	after, err := s.metrics(ctx)
	if err != nil {
		return err
	}
	queries := after[`replay_pages_total{source="log"}`]
	found.check(fmt.Sprintf("log queries for all %d reconnects of five storms", int(after["streams_opened_total"])-n), fmt.Sprintf("%.0f", queries), "", "≤ 1", queries <= 1)
	missed := got.Events[swarm.Notification] - had.Events[swarm.Notification]
	found.expect("rows missed in a storm and received", fmt.Sprint(missed), fmt.Sprint(rows), missed == int64(rows))
	return nil
}

package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/proc"
	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
)

// pings is the cost of 50,000 streams' pings each half minute. Fewer streams
// with an interval that is shorter by as much have the same pings a second.
func (r *runner) pings(ctx context.Context, found *Results) (err error) {
	n := r.most(10_000)
	interval := time.Duration(float64(30*time.Second) * float64(n) / 50_000).Round(100 * time.Millisecond)
	interval = max(interval, time.Second)
	s, err := r.Open(ctx, "GATEWAY_PING_INTERVAL="+interval.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	tokens, err := mintTokens(r.secret, 1, n)
	if err != nil {
		return err
	}
	c, err := r.openStreams(ctx, s.Target(), n, tokens)
	if err != nil {
		return err
	}
	defer c.Stop()
	pause := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := pause(interval); err != nil { // until all streams are in the ping wheel and the garbage of their opening is gone
		return err
	}
	before, err := c.CountPings()
	if err != nil {
		return err
	}
	cpu, err := proc.CPU(s.PID())
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(2 * interval); err != nil {
		return err
	}
	after, err := c.CountPings()
	if err != nil {
		return err
	}
	used, err := proc.CPU(s.PID())
	if err != nil {
		return err
	}
	took := time.Since(began)
	slots := after.Pings[len(before.Pings):]
	share, sent := percent(used-cpu, took), after.Events[swarm.Ping]-before.Events[swarm.Ping]
	found.check(fmt.Sprintf("CPU for %.0f pings/s (%d streams each %s), all in all", float64(sent)/took.Seconds(), n, interval),
		fmt.Sprintf("%.1f %% of a core", share), "", "≤ 2.5 %", share <= 2.5)
	worst := busiest(slots) / (float64(sent) / took.Seconds())
	found.check("pings in the busiest second, of the mean", fmt.Sprintf("%.2f ×", worst), "", "≤ 2 ×", worst <= 2)
	return nil
}

// busiest is the most pings within a second, less a tenth: a bucket that is due
// each second must not be counted twice because its neighbour came early.
func busiest(slots []int32) float64 {
	const width = swarm.PingSlots * 9 / 10
	var most, sum int32
	for i, n := range slots {
		sum += n
		if i >= width {
			sum -= slots[i-width]
		}
		most = max(most, sum)
	}
	return float64(most)
}

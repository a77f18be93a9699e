package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/proc"
	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
)

const (
	eventBytes = 700
	burst      = 200 // rows in a transaction where many are inserted
	tabs       = 20  // streams of one user where he has several
	cpuRounds  = 7   // in which the gateway and its floor take turns
)

// delivery is what a number of delivered events cost.
type delivery struct {
	events    int
	took      time.Duration // from the first INSERT to the last event read
	cpu       time.Duration // of the gateway
	generator time.Duration // CPU of the clients
}

func (d delivery) each() time.Duration { return d.cpu / time.Duration(max(1, d.events)) }
func (d delivery) rate() float64       { return float64(d.events) / d.took.Seconds() }

// turn is what a number of events cost the gateway, and then its floor.
type turn struct {
	delivery
	floor   time.Duration // CPU for one event
	reached float64       // the floor's events a second
}

func (t turn) ratio() float64 { return float64(t.each()) / float64(t.floor) }

// cpu is the cost of one event: to random users with one stream each, where
// every event is a row of its own, and to users with several, where what one
// row costs is shared. The gateway and its floor take turns, because the machine
// is not equally fast all the time; the turn with the median ratio counts.
func (r *runner) cpu(ctx context.Context, found *Results) (err error) {
	n := r.most(10_000)
	s, err := r.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	rate := float64(r.scaled(20_000))
	for _, each := range []int{1, tabs} {
		users := max(1, n/each)
		n := users * each
		turns, size, err := r.cpuTurns(ctx, s, users, each, rate)
		if err != nil {
			return err
		}
		t := turns[len(turns)/2]
		found.check(fmt.Sprintf("CPU for one event of %d bytes, %d streams, %d of each user, %.0f events/s", size, n, each, t.rate()),
			fmt.Sprintf("%.1f µs, %.2f ×", micro(t.each()), t.ratio()), fmt.Sprintf("%.1f µs at %.0f/s", micro(t.floor), t.reached), "≤ 1.5 ×", t.ratio() <= 1.5)
		found.add(fmt.Sprintf("  of one core: gateway %.0f %%, clients %.0f %%", percent(t.cpu, t.took), percent(t.generator, t.took)),
			fmt.Sprintf("%d of %d received; %d turns, %.2f to %.2f ×", t.events, t.events, len(turns), turns[0].ratio(), turns[len(turns)-1].ratio()), "")
		if t.rate() < 0.95*rate {
			found.add(fmt.Sprintf("  not the %.0f events/s that were asked for: Postgres and the clients share these cores", rate), "", "")
		}
	}
	return nil
}

// cpuTurns returns the turns, the best ratio first, and the size of an event.
func (r *runner) cpuTurns(ctx context.Context, s *Environment, users, each int, rate float64) (turns []turn, size int, err error) {
	tokens, err := mintTokens(r.secret, 1, users)
	if err != nil {
		return nil, 0, err
	}
	c, err := r.openStreams(ctx, s.Target(), users*each, tokens)
	if err != nil {
		return nil, 0, err
	}
	defer c.Stop()
	f, err := startFloor()
	if err != nil {
		return nil, 0, err
	}
	defer f.Stop()
	beside, err := r.openStreams(ctx, f.target(), users*each, nil)
	if err != nil {
		return nil, 0, err
	}
	defer beside.Stop()
	w := &writer{db: s.db, statement: InsertSQL, first: 1, users: users}
	if err := w.fit(ctx, &s.gateway, c, eventBytes); err != nil {
		return nil, 0, err
	}
	if size, err = w.eventSize(ctx, &s.gateway, c); err != nil {
		return nil, 0, err
	}
	if _, err := deliver(ctx, s, c, w, each, int(rate)/each, rate/float64(each)); err != nil { // to warm up
		return nil, 0, err
	}
	sent, rows, pace := 0, int(rate*r.period(5*time.Second).Seconds())/each, rate/float64(each)
	for range cpuRounds {
		t := turn{}
		if t.delivery, err = deliver(ctx, s, c, w, each, rows, pace); err != nil {
			return nil, 0, err
		}
		sent += t.events
		if t.floor, t.reached, err = floorSend(ctx, f, beside, t.delivery, each, sent); err != nil {
			return nil, 0, err
		}
		turns = append(turns, t)
	}
	slices.SortFunc(turns, func(a, b turn) int { return cmp.Compare(a.ratio(), b.ratio()) })
	return turns, size, nil
}

// openStreams opens n streams and waits until all are open.
func (r *runner) openStreams(ctx context.Context, t swarm.Target, n int, tokens []string) (*swarm.Pool, error) {
	c, err := swarm.Start(t, n, swarm.DefaultInFlight)
	if err != nil {
		return nil, err
	}
	if err := c.Open(n, tokens, false); err != nil {
		c.Stop()
		return nil, err
	}
	if _, err := c.Wait(ctx, "open streams", swarm.AllOpen); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// deliver inserts rows, each of which is each events, waits until they were
// read, and sees that none was lost or doubled.
func deliver(ctx context.Context, s *Environment, c *swarm.Pool, w *writer, each, rows int, rate float64) (d delivery, err error) {
	before, err := c.Count()
	if err != nil {
		return d, err
	}
	clients, began := c.CPU(), time.Now()
	cpu, err := proc.CPU(s.PID())
	if err != nil {
		return d, err
	}
	if err := w.write(ctx, rows, max(1, burst/each), rate, nil); err != nil {
		return d, err
	}
	want := before.Events[swarm.Notification] + int64(rows*each)
	got, err := c.Wait(ctx, fmt.Sprintf("receive %d events", rows*each), func(n swarm.Counts) bool { return n.Events[swarm.Notification] >= want })
	if err != nil {
		return d, err
	}
	d = delivery{events: rows * each, took: time.Since(began), generator: c.CPU() - clients}
	if got.Events[swarm.Notification] != want {
		return d, fmt.Errorf("received %d events, expected %d", got.Events[swarm.Notification]-before.Events[swarm.Notification], rows*each)
	}
	after, err := proc.CPU(s.PID())
	d.cpu = after - cpu
	return d, err
}

// floorSend has the floor send what d was, at the same pace, with which its
// clients c have read all events.
func floorSend(ctx context.Context, f *floor, c *swarm.Pool, d delivery, each, all int) (cpu time.Duration, rate float64, err error) {
	perBurst := max(1, burst/each) * each
	cpu, a, err := f.send(floorTask{Events: d.events, Burst: perBurst, Bytes: eventBytes, Every: time.Duration(float64(perBurst) / d.rate() * float64(time.Second))})
	if err != nil {
		return 0, 0, err
	}
	_, err = c.Wait(ctx, "receive the floor's events", func(n swarm.Counts) bool { return n.Events[swarm.Notification] == int64(all) })
	return cpu, float64(a.Sent) / a.Took.Seconds(), err
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func percent(d, of time.Duration) float64 { return 100 * float64(d) / float64(of) }

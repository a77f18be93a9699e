package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	eventBytes = 700
	burst      = 200 // rows in a transaction where many are inserted
	tabs       = 20  // streams of one user where he has several
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

// cpu is the cost of one event: to random users with one stream each, where
// every event is a row of its own, and to users with several, where what one
// row costs is shared.
func (r *runner) cpu(ctx context.Context, found *results) (err error) {
	n := r.most(10_000)
	s, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	rate := float64(r.scaled(20_000))
	for _, each := range []int{1, tabs} {
		users := max(1, n/each)
		n := users * each
		tokens, err := mintTokens(r.secret, 1, users)
		if err != nil {
			return err
		}
		c, err := r.crowd(ctx, s.target(), n, tokens)
		if err != nil {
			return err
		}
		w := &writer{db: s.db, statement: insertSQL, first: 1, users: users}
		d, size, err := r.deliverFitted(ctx, s, c, w, each, rate)
		c.stop()
		if err != nil {
			return err
		}
		floor, reached, err := r.floorSend(ctx, n, d, each)
		if err != nil {
			return err
		}
		ratio := float64(d.each()) / float64(floor)
		found.check(fmt.Sprintf("CPU for one event of %d bytes, %d streams, %d of each user, %.0f events/s", size, n, each, d.rate()),
			fmt.Sprintf("%.1f µs, %.2f ×", micro(d.each()), ratio), fmt.Sprintf("%.1f µs at %.0f/s", micro(floor), reached), "≤ 1.5 ×", ratio <= 1.5)
		found.add(fmt.Sprintf("  of one core: gateway %.0f %%, clients %.0f %%", percent(d.cpu, d.took), percent(d.generator, d.took)),
			fmt.Sprintf("%d of %d received", d.events, d.events), "")
		if d.rate() < 0.95*rate {
			found.add(fmt.Sprintf("  not the %.0f events/s that were asked for: Postgres and the clients share these cores", rate), "", "")
		}
	}
	return nil
}

// crowd opens n streams and waits until all are open.
func (r *runner) crowd(ctx context.Context, t target, n int, tokens []string) (*crew, error) {
	c, err := startCrew(t, n, inFlight)
	if err != nil {
		return nil, err
	}
	if err := c.open(n, tokens, false); err != nil {
		c.stop()
		return nil, err
	}
	if _, err := c.wait(ctx, "open streams", allOpen); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// deliverFitted warms up and measures ten seconds of events of eventBytes, and
// returns their size too.
func (r *runner) deliverFitted(ctx context.Context, s *site, c *crew, w *writer, each int, rate float64) (d delivery, size int, err error) {
	if err := w.fit(ctx, &s.gateway, c, eventBytes); err != nil {
		return d, 0, err
	}
	if size, err = w.eventSize(ctx, &s.gateway, c); err != nil {
		return d, 0, err
	}
	if _, err := deliver(ctx, s, c, w, each, int(rate)/each, rate/float64(each)); err != nil {
		return d, 0, err
	}
	d, err = deliver(ctx, s, c, w, each, int(rate*r.period(10*time.Second).Seconds())/each, rate/float64(each))
	return d, size, err
}

// deliver inserts rows, each of which is each events, waits until they were
// read, and sees that none was lost or doubled.
func deliver(ctx context.Context, s *site, c *crew, w *writer, each, rows int, rate float64) (d delivery, err error) {
	before, err := c.all(crowdTask{Do: crowdCount})
	if err != nil {
		return d, err
	}
	clients, began := c.cpu(), time.Now()
	cpu, err := cpuOf(s.PID())
	if err != nil {
		return d, err
	}
	if err := w.write(ctx, rows, max(1, burst/each), rate, nil); err != nil {
		return d, err
	}
	want := before.Events[kindNotification] + int64(rows*each)
	got, err := c.wait(ctx, fmt.Sprintf("receive %d events", rows*each), func(n counts) bool { return n.Events[kindNotification] >= want })
	if err != nil {
		return d, err
	}
	d = delivery{events: rows * each, took: time.Since(began), generator: c.cpu() - clients}
	if got.Events[kindNotification] != want {
		return d, fmt.Errorf("received %d events, expected %d", got.Events[kindNotification]-before.Events[kindNotification], rows*each)
	}
	after, err := cpuOf(s.PID())
	d.cpu = after - cpu
	return d, err
}

// floorSend has the floor send what d was, at the same pace.
func (r *runner) floorSend(ctx context.Context, n int, d delivery, each int) (cpu time.Duration, rate float64, err error) {
	f, err := startFloor()
	if err != nil {
		return 0, 0, err
	}
	defer f.stop()
	c, err := r.crowd(ctx, f.target(), n, nil)
	if err != nil {
		return 0, 0, err
	}
	defer c.stop()
	perBurst := max(1, burst/each) * each
	cpu, a, err := f.send(floorTask{Events: d.events, Burst: perBurst, Bytes: eventBytes, Every: time.Duration(float64(perBurst) / d.rate() * float64(time.Second))})
	if err != nil {
		return 0, 0, err
	}
	_, err = c.wait(ctx, "receive the floor's events", func(n counts) bool { return n.Events[kindNotification] == int64(d.events) })
	return cpu, float64(a.Sent) / a.Took.Seconds(), err
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func percent(d, of time.Duration) float64 { return 100 * float64(d) / float64(of) }

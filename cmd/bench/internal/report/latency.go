package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// rates are notifications a second, and how many of them one transaction
// inserts: past some hundreds one connection is not enough for single rows.
func rates() []struct{ rate, burst int } {
	return []struct{ rate, burst int }{{20, 1}, {200, 1}, {2000, 4}, {5000, 10}}
}

// rateLatency is what was measured at one rate.
type rateLatency struct {
	rate         int
	transaction  int  // rows in one
	acknowledged lags // COMMIT acknowledged → read by the client
	sent         lags // INSERT sent → read by the client
	notified     lags // NOTIFY sent → received, between two bare connections
	answered     lags // NOTIFY sent → the answer to a SELECT 1 that is sent at the arrival
}

// latency measures the time from COMMIT to the client, beside a bare round trip of
// LISTEN and NOTIFY at the same number of transactions a second. The two take
// turns, because the machine is not equally fast all the time.
func (r *runner) latency(ctx context.Context, found *Results) (err error) {
	s, err := r.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	const first, users = 1, 20
	tokens, err := mintTokens(r.secret, first, users)
	if err != nil {
		return err
	}
	for _, t := range rates() {
		p := rateLatency{rate: t.rate, transaction: t.burst}
		for range rounds {
			if err := p.turn(ctx, s, tokens, first, r.period(3*time.Second)); err != nil {
				return err
			}
		}
		for _, all := range []lags{p.acknowledged, p.sent, p.notified, p.answered} {
			slices.Sort(all)
		}
		what := fmt.Sprintf("%d/s, %d in a transaction: COMMIT acknowledged → read, median / p99", t.rate, t.burst)
		if ratio := float64(p.acknowledged.at(50)) / float64(p.notified.at(50)); t.rate <= 500 {
			found.check(what, fmt.Sprintf("%s, %.2f ×", p.acknowledged, ratio), p.notified.String(), "median ≤ 1.8 ×", ratio <= 1.8)
		} else {
			found.add(what, fmt.Sprintf("%s, %.2f ×", p.acknowledged, ratio), p.notified.String())
		}
		found.add("  INSERT sent → read", p.sent.String(), "")
		found.add("  the floor and one bare SELECT 1 after it", p.answered.String(), "")
	}
	return nil
}

// turn measures everything once and adds it to p.
func (p *rateLatency) turn(ctx context.Context, s *Environment, tokens []string, first int, d time.Duration) error {
	rows, transactions := int(d.Seconds()*float64(p.rate)), float64(p.rate)/float64(p.transaction)
	notified, err := notifyFloor(ctx, s.DatabaseURL, rows/p.transaction, transactions, false)
	if err != nil {
		return err
	}
	answered, err := notifyFloor(ctx, s.DatabaseURL, rows/p.transaction, transactions, true)
	if err != nil {
		return err
	}
	streams, err := openProbes(ctx, s.Target(), tokens)
	if err != nil {
		return err
	}
	defer streams.close()
	acknowledged, sent, err := streams.latency(ctx, s.db, first, rows, p.transaction, float64(p.rate))
	if err != nil {
		return err
	}
	p.notified, p.answered = append(p.notified, notified...), append(p.answered, answered...)
	p.acknowledged, p.sent = append(p.acknowledged, acknowledged...), append(p.sent, sent...)
	return nil
}

// notifyFloor measures bare round trips: from NOTIFY on one connection to its
// arrival on another. With ask they end with the answer to a SELECT 1 that is sent
// at the arrival, which is the least that a gateway must ask.
func notifyFloor(ctx context.Context, url string, n int, rate float64, ask bool) (all lags, err error) {
	const channel = "bench_floor"
	db, err := throwaway.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	l, err := throwaway.Listen(ctx, url, channel)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close(context.WithoutCancel(ctx))) }()
	sent, heard := make([]time.Time, n), make([]time.Time, n)
	waiting, cancel := context.WithTimeout(ctx, time.Duration(float64(n)/rate*float64(time.Second))+swarm.StallTimeout)
	defer cancel()
	var hearing sync.WaitGroup
	var hearErr error
	hearing.Go(func() {
		for range n {
			payload, err := l.Wait(waiting)
			if ask && err == nil {
				err = l.Exec(waiting, "SELECT 1")
			}
			at := time.Now()
			i, numberErr := strconv.Atoi(payload)
			if err = errors.Join(err, numberErr); err != nil {
				hearErr = err
				return
			}
			heard[i] = at
		}
	})
	err = paced(ctx, n, 1, rate, func(i, _ int) error {
		sent[i] = time.Now()
		return db.Exec(ctx, "SELECT pg_notify($1, $2)", channel, strconv.Itoa(i))
	})
	if err != nil {
		cancel()
	}
	hearing.Wait()
	if err = errors.Join(err, hearErr); err != nil {
		return nil, err
	}
	for i := range sent {
		all = append(all, heard[i].Sub(sent[i]))
	}
	slices.Sort(all)
	return all, nil
}

package report

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// InsertSQL inserts $4 rows for users from $1 on, $2 of them, at random, with
// $3 bytes of filling.
const InsertSQL = `INSERT INTO notifications (user_id, notification_type, title, message)
SELECT $1::bigint + floor(random() * $2::integer)::bigint, 'bench', 'bench', repeat('x', $3::integer) FROM generate_series(1, $4::integer)`

// writer inserts rows as a busy CRM would.
type writer struct {
	db           *throwaway.DB
	statement    string // with the parameters of InsertSQL
	first, users int
	filling      int // bytes
}

// write inserts rows, burst of them in a transaction, at a rate in rows a
// second or as fast as Postgres takes them. after is called with the
// number of rows after each commit; it may be nil.
func (w *writer) write(ctx context.Context, rows, burst int, rate float64, after func(rows int)) error {
	return paced(ctx, rows, burst, rate, func(_, n int) error {
		if err := w.db.Exec(ctx, w.statement, w.first, w.users, w.filling, n); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if after != nil {
			after(n)
		}
		return nil
	})
}

// paced does all of n, burst at a time, at a rate a second. One that is late
// is followed at once by the next.
func paced(ctx context.Context, all, burst int, rate float64, do func(from, n int) error) error {
	began := time.Now()
	for done := 0; done < all; {
		due := began.Add(time.Duration(float64(done) / rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		n := min(burst, all-done)
		if err := do(done, n); err != nil {
			return err
		}
		done += n
	}
	return nil
}

// fit chooses the filling so that an event has bytes bytes, by what one
// without costs.
func (w *writer) fit(ctx context.Context, g *gateway, c *swarm.Pool, bytes int) error {
	w.filling = 0
	size, err := w.eventSize(ctx, g, c)
	if err != nil {
		return err
	}
	w.filling = max(0, bytes-size)
	return nil
}

// eventSize inserts single rows and returns the bytes of an event: the least
// that the gateway has counted for one, because pings are counted too.
func (w *writer) eventSize(ctx context.Context, g *gateway, c *swarm.Pool) (int, error) {
	least := math.MaxInt
	for range 3 {
		size, err := w.oneSize(ctx, g, c)
		if err != nil {
			return 0, err
		}
		least = min(least, size)
	}
	return least, nil
}

func (w *writer) oneSize(ctx context.Context, g *gateway, c *swarm.Pool) (int, error) {
	now, err := c.Count()
	if err != nil {
		return 0, err
	}
	before, err := g.metrics(ctx)
	if err != nil {
		return 0, err
	}
	if err := w.write(ctx, 1, 1, 1, nil); err != nil {
		return 0, err
	}
	if _, err := c.Wait(ctx, "receive a row", func(n swarm.Counts) bool { return n.Events[swarm.Notification] > now.Events[swarm.Notification] }); err != nil {
		return 0, err
	}
	const name = `events_sent_total{event="notification"}`
	var size int
	err = g.until(ctx, func(m map[string]float64) bool { // the client may read before the gateway has counted
		events := m[name] - before[name]
		size = int((m["bytes_sent_total"] - before["bytes_sent_total"]) / max(1, events))
		return events >= 1
	})
	return size, err
}

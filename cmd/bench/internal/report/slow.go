package report

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
)

const (
	slowReaders = 20
	slowMost    = 8000 // events, after which a reader that was not noticed never will be
)

// slow sends events to clients that never read, a few at a time as a busy CRM
// would, until the gateway has noticed each of them.
func (r *runner) slow(ctx context.Context, found *Results) (err error) {
	s, err := r.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	tokens, err := mintTokens(r.secret, 1, slowReaders+1)
	if err != nil {
		return err
	}
	honest, err := r.openStreams(ctx, s.Target(), 1, tokens[slowReaders:])
	if err != nil {
		return err
	}
	defer honest.Stop()
	w := &writer{db: s.db, statement: InsertSQL, first: slowReaders + 1, users: 1}
	if err := w.fit(ctx, &s.gateway, honest, eventBytes); err != nil {
		return err
	}
	silent, err := swarm.Start(s.Target(), slowReaders, swarm.DefaultInFlight)
	if err != nil {
		return err
	}
	defer silent.Stop()
	if err := silent.Open(slowReaders, tokens[:slowReaders], true); err != nil {
		return err
	}
	if _, err := silent.Wait(ctx, "open streams that never read", func(c swarm.Counts) bool { return c.Open == c.Wanted }); err != nil {
		return err
	}
	// A row for each of the users, the honest one's the last of the batch.
	w.first, w.users = 1, slowReaders+1
	w.statement = `INSERT INTO notifications (user_id, notification_type, title, message)
		SELECT $1::bigint + u, 'bench', 'bench', repeat('x', $3::integer) FROM generate_series(1, $4::integer), generate_series(0, $2::integer - 1) u`
	sent, noticed := 0, 0
	now, err := honest.Count()
	if err != nil {
		return err
	}
	read := now.Events[swarm.Notification]
	for sent < slowMost && noticed < slowReaders {
		step := 5
		if sent >= 300 {
			step = 50
		}
		if err := w.write(ctx, step, step, 1e9, nil); err != nil {
			return err
		}
		sent, read = sent+step, read+int64(step)
		if _, err := honest.Wait(ctx, "receive beside slow readers", func(c swarm.Counts) bool { return c.Events[swarm.Notification] >= read }); err != nil {
			return err
		}
		m, err := s.metrics(ctx)
		if err != nil {
			return err
		}
		noticed = int(m[`streams_closed_total{reason="slow_consumer"}`])
	}
	value := fmt.Sprintf("%d of %d, the last after %d events", noticed, slowReaders, sent)
	if noticed < slowReaders {
		value = fmt.Sprintf("%d of %d after %d events", noticed, slowReaders, sent)
	}
	found.check(fmt.Sprintf("clients that never read and receive little, events of %d bytes: noticed", eventBytes), value, "", "≤ 200 events", noticed == slowReaders && sent <= 200)
	return nil
}

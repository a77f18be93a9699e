package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

const (
	slowReaders = 20
	slowMost    = 8000 // events, after which a reader that was not noticed never will be
)

// slow sends events to clients that never read, a few at a time as a busy CRM
// would, until the gateway has noticed each of them.
func (r *runner) slow(ctx context.Context, found *results) (err error) {
	s, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	address, err := netip.ParseAddrPort(s.Public)
	if err != nil {
		return fmt.Errorf("the gateway's address: %w", err)
	}
	tokens, err := mintTokens(r.secret, 1, slowReaders+1)
	if err != nil {
		return err
	}
	honest, err := r.crowd(ctx, s.target(), 1, tokens[slowReaders:])
	if err != nil {
		return err
	}
	defer honest.stop()
	w := &writer{db: s.db, statement: insertSQL, first: slowReaders + 1, users: 1}
	if err := w.fit(ctx, &s.gateway, honest, eventBytes); err != nil {
		return err
	}
	silent, err := startCrew(s.target(), slowReaders, inFlight)
	if err != nil {
		return err
	}
	defer silent.stop()
	if err := silent.open(slowReaders, tokens[:slowReaders], true); err != nil {
		return err
	}
	if _, err := silent.wait(ctx, "open streams that never read", func(c counts) bool { return c.Open == c.Wanted }); err != nil {
		return err
	}
	// A row for each of the users, the honest one's the last of the batch.
	w.first, w.users = 1, slowReaders+1
	w.statement = `INSERT INTO notifications (user_id, notification_type, title, message)
		SELECT $1::bigint + u, 'bench', 'bench', repeat('x', $3::integer) FROM generate_series(1, $4::integer), generate_series(0, $2::integer - 1) u`
	sent, noticed, most := 0, 0, int64(0)
	now, err := honest.all(crowdTask{Do: crowdCount})
	if err != nil {
		return err
	}
	read := now.Events[kindNotification]
	for sent < slowMost && noticed < slowReaders {
		step := 5
		if sent >= 300 {
			step = 50
		}
		if err := w.write(ctx, step, step, 1e9, nil); err != nil {
			return err
		}
		sent, read = sent+step, read+int64(step)
		if _, err := honest.wait(ctx, "receive beside slow readers", func(c counts) bool { return c.Events[kindNotification] >= read }); err != nil {
			return err
		}
		buffers, err := socketMemory(address.Port())
		if err != nil {
			return err
		}
		if len(buffers) > 0 {
			most = max(most, slices.Max(buffers))
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
	found.check("kernel memory of the gateway's end, the most of one", fmt.Sprintf("%d KB", most>>10), "", "≤ 150 KB", most <= 150<<10)
	return nil
}

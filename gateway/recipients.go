package gateway

import (
	"context"
	"hash/maphash"
	"log/slog"
	"slices"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// Roster says who of the recipients that were looked up is not active any
// more. *store.Directory is one.
type Roster interface {
	Inactive(ctx context.Context, recipients []store.Recipient) ([]store.Recipient, error)
}

const (
	rosterSlices = 16   // an interval's checks are spread over so many moments
	rosterPage   = 1000 // recipients in one query: some ten milliseconds of Postgres's time
)

// CheckRecipients ends the streams of recipients that have become inactive,
// with revoked, until ctx ends; it returns ctx's cause. Each recipient is asked
// for once in the interval. Postgres being away ends nobody. A stream costs it
// no memory: the roster is read off the hub, a slice at a time.
func (g *Gateway) CheckRecipients(ctx context.Context, roster Roster, interval time.Duration) error {
	tick := time.NewTicker(max(interval/rosterSlices, time.Millisecond))
	defer tick.Stop()
	seed := maphash.MakeSeed()
	for slice := uint64(0); ; slice = (slice + 1) % rosterSlices {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		in := func(subject string) bool { return maphash.String(seed, subject)%rosterSlices == slice }
		if err := g.checkRecipients(ctx, roster, in); err != nil && ctx.Err() == nil {
			g.config.Logger.Warn("recipients not checked, their streams go on", "err", err)
		}
	}
}

// checkRecipients asks for the recipients whose subject is in a slice.
func (g *Gateway) checkRecipients(ctx context.Context, roster Roster, in func(subject string) bool) error {
	for page := range slices.Chunk(g.hub.lookedUp(in), rosterPage) {
		gone, err := roster.Inactive(ctx, page)
		if err != nil {
			return err
		}
		for _, r := range gone {
			g.hub.revoke(r)
		}
	}
	return nil
}

// lookedUp returns the recipients of streams that came by a look-up, each once.
func (h *hub) lookedUp(in func(subject string) bool) []store.Recipient {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []store.Recipient
	for _, streams := range h.users {
		first := len(out)
		for _, s := range streams {
			r := s.recipient
			if r.Subject != "" && in(r.Subject) && !slices.Contains(out[first:], r) {
				out = append(out, r)
			}
		}
	}
	return out
}

// revoke ends the streams that came by this recipient; another subject's
// streams of the same user go on.
func (h *hub) revoke(r store.Recipient) {
	h.mu.Lock()
	streams := slices.DeleteFunc(slices.Clone(h.users[r.UserKey]), func(s *stream) bool { return s.recipient != r })
	h.mu.Unlock()
	for _, s := range streams {
		h.end(s, endRevoked)
	}
	h.config.Logger.Info("streams of an inactive recipient revoked", slog.Int("streams", len(streams)))
}

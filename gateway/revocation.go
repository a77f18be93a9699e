package gateway

import (
	"context"
	"hash/maphash"
	"log/slog"
	"slices"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// RecipientChecker says which recipients that were looked up are not active any
// more, and which have other further keys by now. *store.RecipientCache is one.
type RecipientChecker interface {
	Check(ctx context.Context, recipients []store.Recipient) (inactive, changed []store.Recipient, err error)
}

const (
	checkSlices = 16   // an interval's checks are spread over so many moments
	checkPage   = 1000 // recipients in one query: some ten milliseconds of Postgres's time
)

// CheckRecipients ends the streams of recipients that have become inactive, with
// revoked, until ctx ends; it returns ctx's cause. Each recipient is asked for
// once in the interval. When Postgres cannot be asked, all streams go on. The
// check costs a stream no memory: the recipients are read off the registry, one
// slice at a time.
func (g *Gateway) CheckRecipients(ctx context.Context, checker RecipientChecker, interval time.Duration) error {
	tick := time.NewTicker(max(interval/checkSlices, time.Millisecond))
	defer tick.Stop()
	seed := maphash.MakeSeed()
	for slice := uint64(0); ; slice = (slice + 1) % checkSlices {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		in := func(subject string) bool { return maphash.String(seed, subject)%checkSlices == slice }
		if err := g.checkRecipients(ctx, checker, in); err != nil && ctx.Err() == nil {
			g.config.Logger.Warn("recipients not checked, their streams go on", "err", err)
		}
	}
}

// checkRecipients asks for the recipients whose subject is in a slice.
func (g *Gateway) checkRecipients(ctx context.Context, checker RecipientChecker, in func(subject string) bool) error {
	for page := range slices.Chunk(g.hub.lookedUp(in), checkPage) {
		inactive, changed, err := checker.Check(ctx, page)
		if err != nil {
			return err
		}
		for _, r := range inactive {
			n := g.hub.endAll(r, endRevoked)
			g.config.Logger.Info("streams of an inactive recipient revoked", slog.Int("streams", n))
		}
		for _, r := range changed { // the client comes again, and stands under the new keys
			n := g.hub.endAll(r, endRegrouped)
			g.config.Logger.Info("streams of a recipient in other groups ended", slog.Int("streams", n))
		}
	}
	return nil
}

// lookedUp returns the recipients of the open streams that were looked up by a
// subject, each once.
func (h *hub) lookedUp(in func(subject string) bool) []store.Recipient {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []store.Recipient
	for _, streams := range h.streams.recipients {
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

// endAll ends the streams of a recipient, and returns how many. Streams of the same
// user key that were looked up by another subject go on.
func (h *hub) endAll(r store.Recipient, code string) int {
	h.mu.Lock()
	var streams []*stream
	for _, s := range h.streams.of(r.UserKey) {
		if s.recipient == r {
			streams = append(streams, s)
		}
	}
	h.mu.Unlock()
	for _, s := range streams {
		h.end(s, code)
	}
	return len(streams)
}

package main

import (
	"context"
	"time"
)

const (
	noticeShare = 6 // of GATEWAY_DRAIN, the first sixth
	noticeMax   = 5 * time.Second
	lastWrites  = time.Second // after the drain at the least, for what is still being written
)

// notice is how long streams are still taken, and none is ended, after
// readiness has gone. A load balancer stops sending requests here only after one
// or two probes, and an EventSource that gets 503 meanwhile never connects again
// (WHATWG HTML, section 9.2.3: any status but 200 fails the connection).
func notice(drain time.Duration) time.Duration { return min(drain/noticeShare, noticeMax) }

// drain takes this replica out of service: readiness goes first, then the
// streams are ended one by one. It returns by when the process should be gone.
func (s *service) drain(ctx context.Context) time.Time {
	end := time.Now().Add(s.config.Drain)
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	if reasons := s.unready(); len(reasons) > 0 && s.gateway.Streams() == 0 {
		// Nobody is served and nobody is sent here: there is nothing to wait for.
		s.logger.Info("stopping before it is ready", "reasons", reasons)
		close(s.draining)
		s.gateway.Drain(ctx)
		return time.Now().Add(lastWrites)
	}
	s.logger.Info("draining", "streams", s.gateway.Streams(), "within", s.config.Drain.String())
	close(s.draining)
	seen := time.NewTimer(notice(s.config.Drain))
	defer seen.Stop()
	select {
	case <-seen.C:
	case <-ctx.Done():
	}
	s.gateway.Drain(ctx)
	if least := time.Now().Add(lastWrites); least.After(end) {
		return least
	}
	return end
}

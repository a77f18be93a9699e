package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	settleWindow = 2 * time.Second  // in which memory must not fall any more
	settleMost   = 15 * time.Second // after which it is taken as it is
)

// holding is what a number of idle streams costs.
type holding struct {
	streams  int
	rss      float64 // bytes of the gateway for each stream, above the empty process
	kernel   float64 // bytes of the kernel for each stream, the gateway's end
	floorRSS float64 // the same of the bare event loop
	floor    float64 // the same of the bare event loop
}

// memory is the cost of idle streams beside the bare event loop.
func (r *runner) memory(ctx context.Context, found *results) error {
	for _, n := range []int{10_000, 18_000} {
		h, err := r.hold(ctx, r.most(n))
		if err != nil {
			return err
		}
		const kb = 1024
		found.check(fmt.Sprintf("%d streams: RSS for each, above the empty process", h.streams),
			fmt.Sprintf("%.2f KB", h.rss/kb), fmt.Sprintf("%.2f KB", h.floorRSS/kb), "≤ 1.5 KB", h.rss <= 1.5*kb)
		ratio := (h.rss + h.kernel) / h.floor
		found.check(fmt.Sprintf("%d streams: RSS and kernel for each", h.streams),
			fmt.Sprintf("%.2f + %.2f KB, %.2f ×", h.rss/kb, h.kernel/kb, ratio), fmt.Sprintf("kernel %.2f KB", h.floor/kb), "≤ 1.35 ×", ratio <= 1.35)
	}
	return nil
}

// hold opens n streams at the floor and at a gateway of their own and measures
// both, once for each n.
//
// The kernel's part is the growth of its objects. They are both ends of a
// connection, each a socket, a file and an epoll entry: half of the floor's
// growth is the clients', and what is left of the gateway's is its own.
func (r *runner) hold(ctx context.Context, n int) (h holding, err error) {
	if known, ok := r.streams[n]; ok {
		return known, nil
	}
	h.streams = n
	f, err := startFloor()
	if err != nil {
		return h, err
	}
	defer f.stop()
	both, floorRSS, c, err := r.grow(ctx, f.target(), f.pid(), n, nil, func() error { return nil })
	if err != nil {
		return h, fmt.Errorf("the floor: %w", err)
	}
	c.stop()
	h.floor, h.floorRSS = both/2, floorRSS

	s, err := r.open(ctx)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	tokens, err := mintTokens(r.secret, 1, n)
	if err != nil {
		return h, err
	}
	measured, rss, c, err := r.grow(ctx, s.target(), s.pid(), n, tokens, func() error { return s.collect(ctx) })
	if err != nil {
		return h, err
	}
	defer c.stop()
	h.rss, h.kernel = rss, measured-h.floor
	r.streams[n] = h
	return h, nil
}

// grow opens n streams and returns by how much the kernel's memory and the
// resident memory of the server have grown for each. The streams stay open.
func (r *runner) grow(ctx context.Context, t target, pid, n int, tokens []string, collect func() error) (kernel, rss float64, c *crew, err error) {
	c, err = startCrew(t, n, inFlight)
	if err != nil {
		return 0, 0, nil, err
	}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	if err := collect(); err != nil {
		return 0, 0, c, err
	}
	rssBefore, kernelBefore, err := settled(ctx, pid)
	if err != nil {
		return 0, 0, c, err
	}
	if err := c.open(n, tokens, false); err != nil {
		return 0, 0, c, err
	}
	if _, err := c.wait(ctx, "open streams", allOpen); err != nil {
		return 0, 0, c, err
	}
	if err := collect(); err != nil {
		return 0, 0, c, err
	}
	rssAfter, kernelAfter, err := settled(ctx, pid)
	return float64(kernelAfter-kernelBefore) / float64(n), float64(rssAfter-rssBefore) / float64(n), c, err
}

// settled waits until a process's memory and the kernel's do not fall any
// more: both give memory back bit by bit.
func settled(ctx context.Context, pid int) (rss, kernel int64, err error) {
	deadline := time.Now().Add(settleMost)
	for {
		var samples [2][2]int64
		for i := range samples {
			if samples[i][0], err = statusOf(pid, "VmRSS"); err != nil {
				return 0, 0, err
			}
			if samples[i][1], err = kernelMemory(); err != nil {
				return 0, 0, err
			}
			if i == 0 {
				select {
				case <-time.After(settleWindow):
				case <-ctx.Done():
					return 0, 0, context.Cause(ctx)
				}
			}
		}
		rss, kernel = samples[1][0], samples[1][1]
		const small = 0.99
		if float64(rss) > small*float64(samples[0][0]) && float64(kernel) > small*float64(samples[0][1]) || time.Now().After(deadline) {
			return rss, kernel, nil
		}
	}
}

package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/proc"
	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
)

const (
	settleWindow = 2 * time.Second  // in which memory must not fall any more
	settleMost   = 15 * time.Second // after which it is taken as it is
)

// holding is what a number of idle streams costs.
type holding struct {
	streams  int
	rss      float64       // bytes of the gateway for each stream, above the empty process
	kernel   float64       // bytes of the kernel for each stream, the gateway's end
	floorRSS float64       // bytes of the bare event loop for each
	floor    float64       // bytes of the kernel for each of its
	opening  time.Duration // until all were open
	openCPU  time.Duration // of the gateway, meanwhile
	sending  time.Duration // from the first INSERT of a row for each stream to the last one read
	sendCPU  time.Duration // of the gateway, meanwhile
}

// memory is the cost of idle streams beside the bare event loop.
func (r *runner) memory(ctx context.Context, found *Results) error {
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
	return r.portable(ctx, found)
}

// portable is what a stream costs over TLS, which the process ends itself: such
// streams go through net/http on every system.
func (r *runner) portable(ctx context.Context, found *Results) (err error) {
	n := r.most(1000)
	cert, key, err := Certificate(r.dir)
	if err != nil {
		return err
	}
	s, err := r.Open(ctx, "GATEWAY_TLS_CERT="+cert, "GATEWAY_TLS_KEY="+key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	tokens, err := mintTokens(r.secret, 1, n)
	if err != nil {
		return err
	}
	t := s.Target()
	t.URL.Scheme, t.Insecure = "https", true
	g, err := r.grow(ctx, t, s.PID(), n, tokens, func() error { return s.collect(ctx) })
	if err != nil {
		return err
	}
	g.pool.Stop()
	found.add(fmt.Sprintf("%d streams over TLS, the portable transport: RSS for each", n), fmt.Sprintf("%.1f KB", g.rss/1024), "")
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
	defer f.Stop()
	bare, err := r.grow(ctx, f.target(), f.PID(), n, nil, func() error { return nil })
	if err != nil {
		return h, fmt.Errorf("the floor: %w", err)
	}
	bare.pool.Stop()
	h.floor, h.floorRSS = bare.kernel/2, bare.rss

	s, err := r.Open(ctx)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	tokens, err := mintTokens(r.secret, 1, n)
	if err != nil {
		return h, err
	}
	g, err := r.grow(ctx, s.Target(), s.PID(), n, tokens, func() error { return s.collect(ctx) })
	if err != nil {
		return h, err
	}
	defer g.pool.Stop()
	h.rss, h.kernel, h.opening, h.openCPU = g.rss, g.kernel-h.floor, g.took, g.cpu
	w := &writer{db: s.db, statement: InsertSQL, first: 1, users: n}
	if _, err := deliver(ctx, s, g.pool, w, 1, burst, 1e9); err != nil { // warms up
		return h, err
	}
	d, err := deliver(ctx, s, g.pool, w, 1, n, 1e9)
	if err != nil {
		return h, err
	}
	h.sending, h.sendCPU = d.took, d.cpu
	r.streams[n] = h
	return h, nil
}

// grown is what opening streams has taken.
type grown struct {
	pool        *swarm.Pool
	kernel, rss float64 // bytes for each stream
	took, cpu   time.Duration
}

// grow opens n streams and returns by how much the kernel's memory and the
// server's resident memory have grown. The streams stay open.
func (r *runner) grow(ctx context.Context, t swarm.Target, pid, n int, tokens []string, collect func() error) (g grown, err error) {
	if g.pool, err = swarm.Start(t, n, swarm.DefaultInFlight); err != nil {
		return g, err
	}
	defer func() {
		if err != nil {
			g.pool.Stop()
		}
	}()
	if err := collect(); err != nil {
		return g, err
	}
	rss, kernel, err := r.settled(ctx, pid)
	if err != nil {
		return g, err
	}
	cpu, err := proc.CPU(pid)
	if err != nil {
		return g, err
	}
	began := time.Now()
	if err := g.pool.Open(n, tokens, false); err != nil {
		return g, err
	}
	if _, err := g.pool.Wait(ctx, "open streams", swarm.AllOpen); err != nil {
		return g, err
	}
	g.took = time.Since(began)
	used, err := proc.CPU(pid)
	if err != nil {
		return g, err
	}
	g.cpu = used - cpu
	if err := collect(); err != nil {
		return g, err
	}
	rssAfter, kernelAfter, err := r.settled(ctx, pid)
	g.rss, g.kernel = float64(rssAfter-rss)/float64(n), float64(kernelAfter-kernel)/float64(n)
	return g, err
}

// settled waits until a process's memory and the kernel's do not fall any
// more: both give memory back bit by bit.
func (r *runner) settled(ctx context.Context, pid int) (rss, kernel int64, err error) {
	deadline := time.Now().Add(settleMost)
	window := max(time.Duration(r.scale*float64(settleWindow)), swarm.PollInterval)
	for {
		var samples [2][2]int64
		for i := range samples {
			if samples[i][0], err = proc.Memory(pid, "VmRSS"); err != nil {
				return 0, 0, err
			}
			if samples[i][1], err = proc.KernelMemory(); err != nil {
				return 0, 0, err
			}
			if i == 0 {
				select {
				case <-time.After(window):
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

//go:build !beside

package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"github.com/seed-64e334f9/notification-gateway/cmd/internal/process"
)

// replicas are the gateways of the demo. One may be killed: its streams go on at
// the other, and another process takes its place.
type replicas struct {
	start  func(context.Context) (*process.Gateway, error)
	failed chan struct{} // closed when a replica has ended by itself

	mu      sync.Mutex
	running [2]*process.Gateway // nil while it is being started; guarded by mu
	fail    sync.Once
}

// startReplicas starts them one after the other.
func startReplicas(ctx context.Context, start func(context.Context) (*process.Gateway, error)) (*replicas, error) {
	r := &replicas{start: start, failed: make(chan struct{})}
	for i := range r.running {
		if err := r.launch(ctx, i); err != nil {
			return nil, errors.Join(err, r.stop())
		}
	}
	return r, nil
}

func (r *replicas) launch(ctx context.Context, i int) error {
	g, err := r.start(ctx)
	if err != nil {
		return fmt.Errorf("start replica %d: %w", i+1, err)
	}
	r.mu.Lock()
	r.running[i] = g
	r.mu.Unlock()
	go func() {
		<-g.Exited
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.running[i] == g { // nobody asked for it
			r.fail.Do(func() { close(r.failed) })
		}
	}()
	return nil
}

// address is where a request goes: to the first replica that runs.
func (r *replicas) address() *url.URL {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.running {
		if g != nil {
			return &url.URL{Scheme: "http", Host: g.Public}
		}
	}
	return &url.URL{Scheme: "http", Host: "127.0.0.1:1"} // where nothing listens
}

// kill ends the replica that has the streams, says which one it was, and starts
// another in its place before it returns.
func (r *replicas) kill(ctx context.Context) (number int, err error) {
	r.mu.Lock()
	var victim *process.Gateway
	for i, g := range r.running {
		if g != nil && victim == nil {
			victim, number = g, i+1
			r.running[i] = nil
		}
	}
	r.mu.Unlock()
	if victim == nil {
		return 0, errors.New("no replica runs at the moment")
	}
	victim.Kill()
	return number, r.launch(ctx, number-1)
}

func (r *replicas) stop() (all error) {
	r.mu.Lock()
	running := r.running
	r.running = [2]*process.Gateway{}
	r.mu.Unlock()
	for _, g := range running {
		if g != nil {
			all = errors.Join(all, g.Stop())
		}
	}
	return all
}

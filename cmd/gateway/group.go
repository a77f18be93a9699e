package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// group runs the parts of a process, of which none may end before the others.
type group struct {
	failed chan struct{} // closed when a part has ended by itself

	running sync.WaitGroup
	once    sync.Once
	err     error // of the part that ended first; written before failed is closed
}

func newGroup() *group { return &group{failed: make(chan struct{})} }

// start runs a part until ctx ends. A part that returns an error before that has
// failed, and with it the process; the errors after the first are its consequences.
func (g *group) start(ctx context.Context, what string, part func(context.Context) error) {
	g.running.Go(func() {
		err := part(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
			return
		}
		g.once.Do(func() {
			g.err = fmt.Errorf("%s: %w", what, err)
			close(g.failed)
		})
	})
}

// wait waits for every part.
func (g *group) wait() { g.running.Wait() }

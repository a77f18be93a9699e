package main

import (
	"context"
	"errors"
	"testing"
)

// However many parts fail at once, the process must stop with the first one's
// error and wait for all: a channel with a place for each part was one too short
// as soon as a part was added.
func TestGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := newGroup()
	for range 50 {
		g.start(ctx, "part", func(context.Context) error { return errors.New("broken") })
	}
	g.start(ctx, "healthy", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
	<-g.failed
	cancel()
	g.wait()
	if g.err == nil || g.err.Error() != "part: broken" {
		t.Errorf("%v", g.err)
	}
}

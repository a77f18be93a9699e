package gateway

import "sync"

// fullness says when a load balancer should send no more streams here. It has a
// margin on both sides. It says so a little before streams are refused, because
// load balancers ask only every few seconds. It takes it back only when there is
// room again for more than the next few.
type fullness struct {
	max int

	mu   sync.Mutex
	full bool // what was said last; guarded by mu
}

const (
	fullMargin  = 50 // full when less than a 50th of the places is free
	emptyMargin = 20 // and until a 20th is
)

// judge takes how many streams are open.
func (f *fullness) judge(open int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		f.full = open > f.max-max(1, f.max/emptyMargin)
	} else {
		f.full = open >= f.max-f.max/fullMargin
	}
	return f.full
}

// Full reports whether no more streams should be routed here.
func (g *Gateway) Full() bool { return g.fullness.judge(g.Streams()) }

package gateway

import (
	"testing"
	"time"
)

// An event larger than the whole buffer must come all the same, or its user
// could never get past it.
func TestOutboxTakesAnEventLargerThanItself(t *testing.T) {
	var o outbox
	now := time.Now()
	if !o.fits(100, 10) {
		t.Error("an empty outbox refused it")
	}
	o.push(&event{}, make([]byte, 100), now)
	if o.fits(1, 10) || !o.fits(1, 101) {
		t.Error("what fits is not judged by what waits")
	}
	o.wrote(99, now)
	if o.fits(10, 10) || !o.fits(9, 10) {
		t.Error("bytes that were written still count")
	}
}

// A client is stuck from its last progress on, not from the first event that it
// kept waiting: else one that reads slowly would be cut off.
func TestOutboxMeasuresProgress(t *testing.T) {
	var o outbox
	now := time.Now()
	first, second := &event{}, &event{}
	if o.stalled(now) != 0 {
		t.Error("nothing waits, and it is stalled")
	}
	o.push(first, []byte("first"), now)
	o.push(second, []byte("second"), now.Add(time.Second))
	idle := o.wait()
	for _, step := range []struct {
		wrote   int
		at      time.Duration
		done    *event
		stalled time.Duration // two seconds later
	}{{0, 1, nil, 3}, {4, 2, nil, 2}, {1, 3, first, 2}, {6, 5, second, 0}} {
		select {
		case <-idle:
			t.Error("the wait ended while bytes wait")
		default:
		}
		at := now.Add(step.at * time.Second)
		if done := o.wrote(step.wrote, at); done != step.done {
			t.Errorf("after %d bytes at %d the event %p is done, want %p", step.wrote, step.at, done, step.done)
		}
		if got := o.stalled(at.Add(2 * time.Second)); got != step.stalled*time.Second {
			t.Errorf("stalled for %v after %d bytes at %d, want %d s", got, step.wrote, step.at, step.stalled)
		}
	}
	select {
	case <-idle:
	default:
		t.Error("everything is written, and the wait goes on")
	}
}

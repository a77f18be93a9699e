package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	rememberFor   = 5 * time.Second // somebody who signed out at the CRM may still get in for so long
	rememberAtAll = 16384           // answers: a storm of reconnects comes from fewer people in five seconds
)

// answers remembers what the CRM said, by the keyed hash of the credentials. While
// one request asks for certain credentials, the others with the same ones wait for
// its answer.
type answers struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]*pending // guarded by mu
}

// pending is what the CRM said, or will. The fields are written before done is
// closed, and only read after it.
type pending struct {
	done   chan struct{}
	answer Answer
	err    error
}

// enter returns the answer that is remembered or under way, or a new one, which
// the caller must complete. With fresh it always returns a new one.
func (a *answers) enter(id [sha256.Size]byte, fresh bool) (p *pending, mine bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p, ok := a.known[id]; ok && !fresh && p.isFresh(time.Now()) {
		return p, false
	}
	if len(a.known) >= rememberAtAll {
		for other := range a.known { // map order is random enough; those who wait for it hold it
			delete(a.known, other)
			break
		}
	}
	p = &pending{done: make(chan struct{})}
	a.known[id] = p
	return p, true
}

func (p *pending) isFresh(now time.Time) bool {
	return !p.isDone() || now.Sub(p.answer.At) < rememberFor
}

func (p *pending) isDone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false // under way
	}
}

// complete hands an answer to those who wait. Only a good one is remembered.
func (a *answers) complete(id [sha256.Size]byte, p *pending, answer Answer, err error) {
	p.answer, p.err = answer, err
	close(p.done)
	if err == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known[id] == p {
		delete(a.known, id)
	}
}

// forget drops an answer that may not hold any more. One that is under way stays.
func (a *answers) forget(id [sha256.Size]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p, ok := a.known[id]; ok && p.isDone() {
		delete(a.known, id)
	}
}

// remembered counts the answers that are still good, and drops the others.
func (a *answers) remembered(now time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, p := range a.known {
		if !p.isFresh(now) {
			delete(a.known, id)
		}
	}
	return len(a.known)
}

package store

import (
	"context"
	"sync"
)

// turns bounds how many questions to Postgres are under way: in all, and for one
// user, so that a user whose browser comes back again and again holds nobody else
// up. Callers wait for their turn, and one that leaves meanwhile has asked nothing.
type turns struct {
	all  chan struct{} // holds one value for each turn taken
	each int           // of one user

	mu    sync.Mutex
	users map[string]*userTurns // who has a turn or waits for one; guarded by mu
}

type userTurns struct {
	taken   chan struct{}
	holders int // with a turn or waiting; guarded by turns.mu
}

func newTurns(all, each int) *turns {
	return &turns{all: make(chan struct{}, all), each: each, users: map[string]*userTurns{}}
}

// take waits for a turn, which the caller gives back by calling done. Its error is
// ctx's cause. The user's own turn comes first: callers of one user that wait take
// none of the turns of all.
func (t *turns) take(ctx context.Context, user string) (done func(), err error) {
	t.mu.Lock()
	u := t.users[user]
	if u == nil {
		u = &userTurns{taken: make(chan struct{}, t.each)}
		t.users[user] = u
	}
	u.holders++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if u.holders--; u.holders == 0 {
			delete(t.users, user)
		}
	}
	select {
	case u.taken <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
	select {
	case t.all <- struct{}{}:
	case <-ctx.Done():
		<-u.taken
		leave()
		return nil, context.Cause(ctx)
	}
	return func() {
		<-t.all
		<-u.taken
		leave()
	}, nil
}

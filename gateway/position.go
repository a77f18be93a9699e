package gateway

import (
	"sync/atomic"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// position is a place in the order of commits that many streams share: a cursor,
// and its text, which is made once. It never changes.
type position struct {
	store.Cursor
	text atomic.Pointer[string] // nil until somebody needed it
}

// id returns the text that clients get as the id of an event.
func (p *position) id() string {
	if text := p.text.Load(); text != nil {
		return *text
	}
	text := p.Cursor.String()
	p.text.Store(&text)
	return text
}

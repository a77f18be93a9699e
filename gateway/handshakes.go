package gateway

import (
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxHandshakes = 256                    // connections whose request is being read and answered
	slowHandshake = 100 * time.Millisecond // after it a connection no longer holds up others
)

// handshakes bounds the connections between accept and the open stream. Each
// costs net/http some 20 KB in that time. When all clients reconnect at once, the
// others wait in the kernel's queue, which costs less. A client that sends its
// request slowly, or not at all, loses its place after a moment, so it cannot
// keep others out.
type handshakes struct {
	places chan struct{} // capacity: maxHandshakes; one in it for each that is under way

	mu    sync.Mutex
	under map[net.Conn]*time.Timer // under way; guarded by mu
}

func newHandshakes() *handshakes {
	return &handshakes{places: make(chan struct{}, maxHandshakes), under: map[net.Conn]*time.Timer{}}
}

// follow takes a place for a new connection, and waits for one: the server
// accepts no other meanwhile. A connection that was taken over keeps its place
// until its request's goroutine releases it.
func (h *handshakes) follow(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		h.places <- struct{}{}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.under[c] = time.AfterFunc(slowHandshake, func() { h.release(c) })
	case http.StateIdle, http.StateClosed:
		h.release(c)
	}
}

// release gives a connection's place up, if it still has one.
func (h *handshakes) release(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if timer, ok := h.under[c]; ok {
		timer.Stop()
		delete(h.under, c)
		<-h.places
	}
}

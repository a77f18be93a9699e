package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// transport is how a stream's bytes leave. Which one a stream has depends on
// its connection alone (see Gateway.transport); both keep the same promises.
// Send and End never block. Events that were given before Serve go out with
// the head.
type transport interface {
	// Send takes an event; false when more waits than the buffer holds. What it
	// does not write at once it keeps (event.retain).
	Send(e *event) bool
	// Stalled is for how long nothing was written while something waits.
	Stalled() time.Duration
	// Drained waits until everything that was taken has been written.
	Drained(ctx context.Context) error
	// End takes the last event and closes the connection after it.
	End(e *event)
	// Serve answers 200 with w's header and lets events out from then on. It
	// calls replay meanwhile (nil: nothing is replayed), and gone once when the
	// connection is over: stuck says that the client took nothing for a whole
	// write deadline. Serve may return long before. It is called once, by the
	// request's goroutine.
	Serve(w http.ResponseWriter, r *http.Request, replay func(context.Context), gone func(stuck bool))
}

// writeDeadline is how long a client may take nothing while something waits
// for it. It is gone or stuck then: its connection is closed and it resumes.
const writeDeadline = 30 * time.Second

var errStreamEnded = errors.New("the stream has ended")

// transport chooses how a request's stream leaves: parked where the connection
// is plain TCP with HTTP/1.1, else through net/http.
func (g *Gateway) transport(r *http.Request) transport {
	if g.lot != nil && canPark(r) {
		return g.lot.transport()
	}
	return newQueue(g.config.StreamBuffer, g.metrics.written)
}

// canPark reports whether the connection can be taken over: over TLS the
// bytes are not ours, and an HTTP/2 connection carries other streams too.
func canPark(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return r.TLS == nil && r.ProtoMajor == 1 && r.ProtoMinor >= 1 && local != nil && local.Network() == "tcp"
}

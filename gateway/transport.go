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
	// Send takes an event. It reports false when more would wait than the buffer
	// holds. An event that it does not write at once it retains.
	Send(e *event) bool
	// Stalled is for how long nothing was written while something waits.
	Stalled() time.Duration
	// Drained waits until everything that was taken has been written.
	Drained(ctx context.Context) error
	// End takes the last event and closes the connection after it.
	End(e *event)
	// Serve answers 200 with w's header, and writes events from then on. It calls
	// replay meanwhile, unless that is nil, and onClose once when the connection
	// is over: timedOut says that the client took nothing for a whole write
	// deadline. Serve may return long before. The request's goroutine calls it
	// once.
	Serve(w http.ResponseWriter, r *http.Request, replay func(context.Context), onClose func(timedOut bool))
}

// writeDeadline is how long a client may take nothing while something waits
// for it. After it the connection is closed, and the client resumes.
const writeDeadline = 30 * time.Second

var errStreamEnded = errors.New("the stream has ended")

// transport chooses how a request's stream leaves: by the poller where the
// connection is plain TCP with HTTP/1, else through net/http.
func (g *Gateway) transport(r *http.Request) transport {
	if g.poller != nil && canTakeOver(r) {
		return g.poller.transport(r.ProtoMinor >= 1)
	}
	return newHTTPTransport(g.config.StreamBuffer, g.metrics.written)
}

// canTakeOver reports whether the connection can be taken from net/http: over
// TLS the bytes on it are not ours, and an HTTP/2 connection carries other
// streams too.
func canTakeOver(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return r.TLS == nil && r.ProtoMajor == 1 && local != nil && local.Network() == "tcp"
}

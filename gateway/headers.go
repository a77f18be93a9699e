package gateway

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// requestDeadline is how long a request's body may take to come and its answer
// to leave. A stream sets its own for each event.
const requestDeadline = 10 * time.Second

// emptyBodyDeadline is how long the end of a body may take that should have no
// bytes: it comes with the head. It leaves time for the answer to leave.
const emptyBodyDeadline = 2 * time.Second

// setHeaders sets what every answer has, and bounds the time that a client may
// take to send a body and to read an answer: net/http reads what is left of a
// body before it answers, and writes an answer, without any bound.
func setHeaders(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // the URL may hold a token
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin") // of loads without CORS; a listed origin's come with it
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(requestDeadline)) // not every transport has one
	if r.ContentLength != 0 {
		h.Set("Connection", "close") // so that the deadline is nobody else's
		_ = rc.SetReadDeadline(time.Now().Add(requestDeadline))
	}
}

// hasBody reports whether a request has a body of at least one byte, or of an
// unknown end. Proxies announce an empty one as chunked where an HTTP/2 request
// ended with an empty DATA frame.
func hasBody(w http.ResponseWriter, r *http.Request) bool {
	if r.ContentLength >= 0 {
		return r.ContentLength > 0
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(emptyBodyDeadline))
	var first [1]byte
	n, err := io.ReadFull(r.Body, first[:])
	_ = rc.SetReadDeadline(time.Time{}) // a stream lives longer than a body may take
	return n > 0 || !errors.Is(err, io.EOF)
}

// hasEncodedPath reports whether a path came in another spelling than URLs are
// written in: with %2F or %73 it would mean one thing to the rules of a proxy and
// another here.
func hasEncodedPath(r *http.Request) bool { return r.URL.RawPath != "" }

package gateway

import (
	"net/http"
	"time"
)

// requestDeadline is how long a request's body may take to come and its answer
// to leave. A stream sets its own for each event.
const requestDeadline = 10 * time.Second

// guard sets what every answer has, and bounds what a connection may hold on
// to before and after a handler: net/http reads what is left of a body before
// it answers, and writes an answer, for as long as the client likes.
func guard(w http.ResponseWriter, r *http.Request) {
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

// oneSpelling reports whether a path came as URLs are written: with %2F or %73
// it would mean one thing to the rules of a proxy and another here.
func oneSpelling(r *http.Request) bool { return r.URL.RawPath == "" }

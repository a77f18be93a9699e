package gateway

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store"
)

// serveHTTP routes a request; both paths also work without their last slash.
func (g *Gateway) serveHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w, r)
	var allow string
	var handle func(http.ResponseWriter, *http.Request)
	var file *staticFile
	path := strings.TrimSuffix(r.URL.Path, "/")
	if hasEncodedPath(r) {
		path = ""
	}
	switch path {
	case g.config.PathPrefix + "/stream":
		allow = "GET, HEAD, OPTIONS"
		handle = g.serveStream
	case g.config.PathPrefix + "/session":
		allow = "POST, DELETE, OPTIONS"
		handle = g.serveSession
	default:
		if file = g.files[r.URL.Path]; file != nil && path != "" {
			allow = "GET, HEAD, OPTIONS"
			handle = file.serve
			break
		}
		g.answer(w, r, &httpError{status: http.StatusNotFound, code: "not_found", sentence: "There is nothing here."})
		return
	}
	g.cors(w, r, allow)
	switch {
	case r.Method == http.MethodOptions:
		w.Header().Set("Allow", allow)
		w.WriteHeader(http.StatusNoContent)
	case !allowed(allow, r.Method):
		w.Header().Set("Allow", allow)
		g.answer(w, r, &httpError{status: http.StatusMethodNotAllowed, code: "method_not_allowed", sentence: "Use one of " + allow + "."})
	default:
		if file == nil { // a file asks for no right: nothing can be guessed by many attempts
			if wait, ok := g.limiter.allow(r, time.Now()); !ok {
				g.answer(w, r, errTooMany(wait))
				return
			}
		}
		handle(w, r)
	}
}

// identify says whom a request's token names.
func (g *Gateway) identify(r *http.Request) (visitor, *httpError) {
	token, from, err := auth.Extract(r, g.config.CookieName)
	if err != nil {
		return visitor{}, errToken(err)
	}
	if from == auth.SourceNone {
		return visitor{}, errToken(&auth.Error{Code: "invalid_request", Reason: "missing"})
	}
	if from == auth.SourceCookie && !g.originAllowed(r) {
		return visitor{}, errOrigin()
	}
	identity, recipient, refused := g.sessionOwner(r.Context(), token)
	v := visitor{identity: identity, recipient: recipient}
	if from == auth.SourceCookie {
		v.cookie = token
	}
	return v, refused
}

// serveStream is the request's whole way: query, token, recipient, hub.
func (g *Gateway) serveStream(w http.ResponseWriter, r *http.Request) {
	query, refused := parseQuery(r)
	if hasBody(w, r) {
		refused = errBadRequest("A stream takes no request body.")
	}
	if refused == nil {
		refused = g.hub.admit()
	}
	var v visitor
	if refused == nil {
		v, refused = g.visitor(r)
	}
	var groups []string
	if refused == nil {
		groups, refused = g.furtherKeys(v)
	}
	if refused != nil {
		g.answer(w, r, refused)
		return
	}
	if v.session != nil {
		http.SetCookie(w, v.session)
	}
	if r.Method == http.MethodHead {
		setHead(w.Header())
		w.WriteHeader(http.StatusOK)
		return
	}
	from, reset, refused := g.resume(query.lastEventID)
	if refused != nil {
		g.answer(w, r, refused)
		return
	}
	s := &stream{
		recipient: v.recipient, groups: groups, login: v.login, types: query.types, changes: query.changes, counts: query.counts, out: g.transport(r),
		expires: endOf(v.identity), session: g.session(r.Context(), v.cookie),
	}
	unread := query.unread && from.IsZero() && reset == ""
	at, refused := g.hub.register(s, from.IsZero() && !unread, func(at *position) []*event {
		id := at.id()
		switch {
		case reset != "" || unread:
			id = at.Stale().String()
		case !from.IsZero():
			id = from.String()
		}
		first := []*event{connectedEvent(id, v.recipient, g.config.retry())}
		if reset != "" {
			first = append(first, resetEvent(at.id(), reset))
		}
		return first
	})
	if refused != nil {
		g.answer(w, r, refused)
		return
	}
	if reset != "" {
		g.metrics.resets.WithLabelValues(reset).Inc()
	}
	setHead(w.Header())
	s.out.Serve(w, r, g.hub.replay(s, from, at, unread), func(timedOut bool) { g.hub.onClose(s, timedOut) })
}

// resume reads a last event ID. One that proves nothing is no error: the
// client is told to reload, and why.
func (g *Gateway) resume(lastEventID string) (from store.Cursor, reset string, refused *httpError) {
	if lastEventID == "" {
		return store.Cursor{}, "", nil
	}
	from, err := g.source.ParseCursor(lastEventID)
	var bad *store.ResetError
	switch {
	case errors.As(err, &bad):
		return store.Cursor{}, bad.Reason, nil
	case err != nil:
		return store.Cursor{}, "", errCause(err)
	}
	return from, "", nil
}

// setHead sets what keeps proxies from buffering, compressing and caching the
// stream.
func setHead(h http.Header) {
	h.Set("Content-Type", "text/event-stream; charset=utf-8") // some clients take Latin-1 for the default of text
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
}

// allowed reports whether a method is one of a path, written as the field Allow.
func allowed(allow, method string) bool {
	return slices.Contains(strings.Split(allow, ", "), method)
}

// isStream reports whether a request asks for a stream.
func (g *Gateway) isStream(r *http.Request) bool {
	return strings.TrimSuffix(r.URL.Path, "/") == g.config.PathPrefix+"/stream" && (r.Method == http.MethodGet || r.Method == http.MethodHead)
}

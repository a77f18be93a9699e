package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

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
	methods := strings.Split(allow, ", ")
	switch {
	case r.Method == http.MethodOptions:
		w.Header().Set("Allow", allow)
		w.WriteHeader(http.StatusNoContent)
	case !slices.Contains(methods, r.Method):
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

// cors lets the pages of listed origins read answers (Fetch Standard, section
// 3.3, "CORS protocol"). A list of origins makes every answer depend on Origin.
func (g *Gateway) cors(w http.ResponseWriter, r *http.Request, allow string) {
	if len(g.config.AllowedOrigins) == 0 {
		return
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if !slices.Contains(g.config.AllowedOrigins, origin) || len(r.Header.Values("Origin")) > 1 {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", allow)
		h.Set("Access-Control-Allow-Headers", "Authorization, Last-Event-ID, Cache-Control")
		h.Set("Access-Control-Max-Age", "600")
	}
}

// originAllowed reports whether a request that came with the cookie may use
// it: a browser adds the cookie by itself, so another site's page must not.
func (g *Gateway) originAllowed(r *http.Request) bool {
	if len(r.Header.Values("Origin")) > 1 {
		return false // no browser sends two: who wrote the other?
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		site := r.Header.Get("Sec-Fetch-Site") // Fetch Metadata, section 2.3
		return site != "cross-site" && site != "same-site"
	}
	if slices.Contains(g.config.AllowedOrigins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// streamQuery is what a client asks of a stream.
type streamQuery struct {
	lastEventID string
	types       map[string]bool // nil is all
	unread      bool
}

const (
	maxTypes    = 32
	maxTypeName = 200 // bytes
)

// parseQuery reads the query and Last-Event-ID; the header wins.
func parseQuery(r *http.Request) (streamQuery, *httpError) {
	var q streamQuery
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, errBadRequest("The query is not URL-encoded.")
	}
	for _, name := range []string{"last_event_id", "types", "replay"} {
		if len(values[name]) > 1 {
			return q, errBadRequest("The parameter " + name + " stands more than once.")
		}
	}
	q.lastEventID = r.Header.Get("Last-Event-ID")
	if q.lastEventID == "" {
		q.lastEventID = values.Get("last_event_id")
	}
	switch values.Get("replay") {
	case "":
	case "unread":
		q.unread = true
	default:
		return q, errBadRequest("The parameter replay must be unread.")
	}
	if types := values.Get("types"); types != "" {
		names := strings.Split(types, ",")
		if len(names) > maxTypes {
			return q, errBadRequest("The parameter types names too many types.")
		}
		q.types = make(map[string]bool, len(names))
		for _, name := range names {
			if name == "" || len(name) > maxTypeName || strings.ContainsFunc(name, unicode.IsControl) {
				return q, errBadRequest("The parameter types must be notification types, separated by commas.")
			}
			q.types[name] = true
		}
	}
	return q, nil
}

// identify says whom a request's token names.
func (g *Gateway) identify(r *http.Request) (auth.Identity, store.Recipient, *httpError) {
	token, from, err := auth.Extract(r, g.config.CookieName)
	if err != nil {
		return auth.Identity{}, store.Recipient{}, errToken(err)
	}
	if from == auth.SourceNone {
		return auth.Identity{}, store.Recipient{}, errToken(&auth.Error{Code: "invalid_request", Reason: "missing"})
	}
	if from == auth.SourceCookie && !g.originAllowed(r) {
		return auth.Identity{}, store.Recipient{}, errOrigin()
	}
	identity, err := g.verifier.Verify(r.Context(), token)
	if err != nil {
		return identity, store.Recipient{}, errToken(err)
	}
	recipient, err := g.source.Recipient(r.Context(), identity.Subject)
	if err != nil {
		return identity, recipient, errCause(err)
	}
	return identity, recipient, nil
}

// serveStream is the request's whole way: query, token, recipient, hub.
func (g *Gateway) serveStream(w http.ResponseWriter, r *http.Request) {
	query, refused := parseQuery(r)
	if r.ContentLength != 0 {
		refused = errBadRequest("A stream takes no request body.")
	}
	if refused == nil {
		refused = g.hub.admit()
	}
	var identity auth.Identity
	var recipient store.Recipient
	if refused == nil {
		identity, recipient, refused = g.identify(r)
	}
	if refused != nil {
		g.answer(w, r, refused)
		return
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
	s := &stream{recipient: recipient, types: query.types, out: g.transport(r)}
	if end := identity.GoodUntil; !end.IsZero() {
		s.expires = end.Add(time.Second - 1).Unix() // rounded up: not before the token would be refused
	}
	unread := query.unread && from.IsZero() && reset == ""
	at, refused := g.hub.register(s, from.IsZero() && !unread, func(at store.Cursor) []*event {
		id := at.String()
		switch {
		case reset != "" || unread:
			id = at.Stale().String()
		case !from.IsZero():
			id = from.String()
		}
		first := []*event{connectedEvent(id, recipient, g.config.retry())}
		if reset != "" {
			g.metrics.resets.WithLabelValues(reset).Inc()
			first = append(first, resetEvent(at.String(), reset))
		}
		return first
	})
	if refused != nil {
		g.answer(w, r, refused)
		return
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

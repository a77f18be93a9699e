package gateway

import (
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// streamQuery is what a client asks of a stream.
type streamQuery struct {
	lastEventID string
	types       map[string]bool // nil is all
	unread      bool
	changes     bool // what becomes of notifications
	counts      bool // how many are unread
}

const (
	maxTypes    = 32
	maxTypeName = 200 // bytes
)

// parseQuery reads the query and Last-Event-ID; the header wins.
func parseQuery(r *http.Request) (streamQuery, *httpError) {
	q := streamQuery{lastEventID: r.Header.Get("Last-Event-Id")} // as net/http spells it, which saves a copy
	if r.URL.RawQuery == "" {
		return q, nil
	}
	refused := q.parse(r.URL.RawQuery)
	return q, refused
}

// parse is apart from parseQuery because its stack is large: a request without a
// query does not pay for growing it.
func (q *streamQuery) parse(raw string) *httpError {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return errBadRequest("The query is not URL-encoded.")
	}
	lastEventID, refused := positionOf(values)
	if refused != nil {
		return refused
	}
	if q.lastEventID == "" {
		q.lastEventID = lastEventID
	}
	for _, name := range []string{"types", "replay", "unavailable", "changes", "count"} {
		if len(values[name]) > 1 {
			return errTwice(name)
		}
	}
	switch values.Get("replay") {
	case "":
	case "unread":
		q.unread = true
	default:
		return errBadRequest("The parameter replay must be unread.")
	}
	for name, asked := range map[string]*bool{"changes": &q.changes, "count": &q.counts} {
		switch values.Get(name) {
		case "", "false":
		case "true":
			*asked = true
		default:
			return errBadRequest("The parameter " + name + " must be true or false.")
		}
	}
	if as := values.Get("unavailable"); as != "" && as != "retry" {
		return errBadRequest("The parameter unavailable must be retry.")
	}
	if types := values.Get("types"); types != "" {
		return q.parseTypes(types)
	}
	return nil
}

// positionOf returns the last event ID of a query. Clients spell its name in
// several ways (event-source-polyfill: lastEventId). A position under a name that
// we do not know is refused: a client that believes it has resumed would miss
// rows without a word.
func positionOf(values url.Values) (lastEventID string, refused *httpError) {
	seen := 0
	for name, all := range values {
		switch strings.Map(withoutSpelling, name) {
		case "lasteventid":
			seen += len(all)
			lastEventID = all[0]
		case "cursor", "since", "lastid":
			return "", errBadRequest("A position is given as last_event_id, with the last event's id.")
		}
	}
	if seen > 1 {
		return "", errTwice("last_event_id")
	}
	return lastEventID, nil
}

// withoutSpelling makes letters small and drops what only separates words.
func withoutSpelling(r rune) rune {
	switch {
	case r == '-' || r == '_':
		return -1
	case 'A' <= r && r <= 'Z':
		return r + 'a' - 'A'
	}
	return r
}

func (q *streamQuery) parseTypes(types string) *httpError {
	names := strings.Split(types, ",")
	if len(names) > maxTypes {
		return errBadRequest("The parameter types names too many types.")
	}
	q.types = make(map[string]bool, len(names))
	for _, name := range names {
		if name == "" || len(name) > maxTypeName || strings.ContainsFunc(name, unicode.IsControl) {
			return errBadRequest("The parameter types must be notification types, separated by commas.")
		}
		q.types[name] = true
	}
	return nil
}

// wantsRetry reports whether a request asks to be told by a stream that it must
// come again. An EventSource that gets 429 or 503 never connects again.
func wantsRetry(r *http.Request) bool {
	if !strings.Contains(r.URL.RawQuery, "unavailable") {
		return false
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	return err == nil && len(values["unavailable"]) == 1 && values.Get("unavailable") == "retry"
}

func errTwice(name string) *httpError {
	return errBadRequest("The parameter " + name + " stands more than once.")
}

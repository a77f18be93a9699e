package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// Where several places have a token the explicit one must win, and a bad one
// must not fall through to the next: a logged-in browser would answer for it.
func TestExtract(t *testing.T) {
	for _, c := range []struct {
		name, query string
		header      []string // name, value, …
		token       string
		source      Source
		reason      string
	}{
		{name: "nothing"},
		{name: "header", header: []string{"Authorization", "Bearer a.b.c"}, token: "a.b.c", source: SourceHeader},
		{name: "any case", header: []string{"Authorization", "bEARER   a.b.c"}, token: "a.b.c", source: SourceHeader},
		{name: "query", query: "token=a.b.c", token: "a.b.c", source: SourceQuery},
		{name: "cookie", header: []string{"Cookie", "x=1; session=a.b.c"}, token: "a.b.c", source: SourceCookie},
		{name: "header first", query: "token=q", header: []string{"Authorization", "Bearer h", "Cookie", "session=c"}, token: "h", source: SourceHeader},
		{name: "query second", query: "token=q", header: []string{"Cookie", "session=c"}, token: "q", source: SourceQuery},
		{name: "other scheme", header: []string{"Authorization", "Basic eA==", "Cookie", "session=c"}, token: "c", source: SourceCookie},
		{name: "bad header", query: "token=q", header: []string{"Authorization", "Bearer a b"}, source: SourceHeader, reason: "malformed"},
		{name: "empty header", query: "token=q", header: []string{"Authorization", "Bearer"}, source: SourceHeader, reason: "malformed"},
		{name: "tab", query: "token=q", header: []string{"Authorization", "Bearer\tb b"}, source: SourceHeader, reason: "malformed"},
		{name: "two headers", header: []string{"Authorization", "Bearer a", "Authorization", "Bearer b"}, source: SourceHeader, reason: "malformed"},
		{name: "empty query", query: "token=", header: []string{"Cookie", "session=c"}, source: SourceQuery, reason: "malformed"},
		{name: "two queries", query: "token=a&token=b", source: SourceQuery, reason: "malformed"},
		{name: "bad encoding", query: "token=%zz", source: SourceQuery, reason: "malformed"},
		{name: "line break", query: "token=a%0d%0ab", source: SourceQuery, reason: "malformed"},
		{name: "two cookies", header: []string{"Cookie", "session=a; session=b"}, source: SourceCookie, reason: "malformed"},
		{name: "too large", query: "token=" + strings.Repeat("x", 9000), source: SourceQuery, reason: "too_large"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = c.query
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Add(c.header[i], c.header[i+1])
		}
		token, source, err := Extract(r, "session")
		var refused *Error
		if token != c.token || source != c.source || c.reason == "" && err != nil || c.reason != "" && (!errors.As(err, &refused) || refused.Reason != c.reason) {
			t.Errorf("%s: %q from %d, %v; want %q from %d, %q", c.name, token, source, err, c.token, c.source, c.reason)
		}
	}
}

// FuzzExtract looks for a request that crashes the extraction or gets anything
// through that is no compact JWS.
func FuzzExtract(f *testing.F) {
	f.Add("Bearer a.b.c", "token=a", "session=b")
	f.Add("Basic x", "token=%zz", "session=")
	f.Fuzz(func(t *testing.T, header, query, cookie string) {
		r := &http.Request{Header: http.Header{"Authorization": {header}, "Cookie": {cookie}}, URL: &url.URL{RawQuery: query}}
		token, source, err := Extract(r, "session")
		if err != nil || source == SourceNone {
			if token != "" {
				t.Errorf("%q came with %v", token, err)
			}
			return
		}
		for i := range len(token) {
			if !isTokenByte(token[i]) {
				t.Errorf("%q got through", token)
			}
		}
	})
}

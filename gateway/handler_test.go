package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func (r *rig) request(method, path string, header map[string]string) (*http.Response, string) {
	r.Helper()
	req, err := http.NewRequest(method, r.server.URL+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	for name, value := range header {
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	resp, err := r.server.Client().Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK && method == http.MethodGet {
		return resp, "" // a stream
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp, string(body)
}

// Wrong requests get their status, a code and a sentence, and nothing of what
// they sent comes back.
func TestRefusals(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.AllowedOrigins = []string{"https://crm.example.com"} })
	const stream = "/api/notifications/stream/"
	bearer := func(t string) map[string]string { return map[string]string{"Authorization": "Bearer " + t} }
	for _, c := range []struct {
		name, method, path string
		header             map[string]string
		status             int
		code               string
	}{
		{"no token", "GET", stream, nil, 401, "missing_token"},
		{"other scheme", "GET", stream, map[string]string{"Authorization": "Basic eA=="}, 401, "missing_token"},
		{"empty bearer", "GET", stream, bearer(""), 401, "invalid_token"},
		{"bad header, good query", "GET", stream + "?token=5", bearer("a b"), 401, "invalid_token"},
		{"expired", "GET", stream, bearer("expired"), 401, "token_expired"},
		{"expired HEAD", "HEAD", stream, bearer("expired"), 401, ""},
		{"two tokens", "GET", stream + "?token=5&token=7", nil, 401, "invalid_token"},
		{"nobody", "GET", stream, bearer("nobody"), 403, "no_recipient"},
		{"broken database", "GET", stream, bearer("broken"), 503, "unavailable"},
		{"keys away", "GET", stream, bearer("keyless"), 503, "keys_unavailable"},
		{"malformed query", "GET", stream + "?a=%zz", bearer("5"), 400, "bad_request"},
		{"semicolon", "GET", stream + "?a;b", bearer("5"), 400, "bad_request"},
		{"unknown replay", "GET", stream + "?replay=all", bearer("5"), 400, "bad_request"},
		{"two replays", "GET", stream + "?replay=unread&replay=unread", bearer("5"), 400, "bad_request"},
		{"two positions", "GET", stream + "?last_event_id=a&lastEventId=a", bearer("5"), 400, "bad_request"},
		{"cursor", "GET", stream + "?cursor=a", bearer("5"), 400, "bad_request"},
		{"since", "GET", stream + "?Since=", bearer("5"), 400, "bad_request"},
		{"last_id", "GET", stream + "?last_id=7", bearer("5"), 400, "bad_request"},
		{"empty type", "GET", stream + "?types=a,,b", bearer("5"), 400, "bad_request"},
		{"long type", "GET", stream + "?types=" + strings.Repeat("x", 201), bearer("5"), 400, "bad_request"},
		{"many types", "GET", stream + "?types=a" + strings.Repeat(",a", 32), bearer("5"), 400, "bad_request"},
		{"control type", "GET", stream + "?types=%0a", bearer("5"), 400, "bad_request"},
		{"POST", "POST", stream, bearer("5"), 405, "method_not_allowed"},
		{"elsewhere", "GET", "/", nil, 404, "not_found"},
		{"deeper", "GET", stream + "x", nil, 404, "not_found"},
		{"cookie from another site", "GET", stream, map[string]string{"Cookie": "session=5", "Origin": "https://evil.example.com"}, 403, "origin_not_allowed"},
		{"cookie from null", "GET", stream, map[string]string{"Cookie": "session=5", "Origin": "null"}, 403, "origin_not_allowed"},
		{"cookie across sites", "GET", stream, map[string]string{"Cookie": "session=5", "Sec-Fetch-Site": "cross-site"}, 403, "origin_not_allowed"},
		{"cookie from a listed origin", "GET", stream, map[string]string{"Cookie": "session=5", "Origin": "https://crm.example.com"}, 200, ""},
		{"cookie from here", "GET", stream, map[string]string{"Cookie": "session=5", "Host": "here.example", "Origin": "http://here.example"}, 200, ""},
		{"no last slash", "GET", "/api/notifications/stream?token=5", nil, 200, ""},
		{"HEAD", "HEAD", stream + "?token=5", nil, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := r.request(c.method, c.path, c.header)
			if resp.StatusCode != c.status {
				t.Fatalf("status %d, want %d: %s", resp.StatusCode, c.status, body)
			}
			var answer struct{ Error, Code string }
			if c.code != "" && (json.Unmarshal([]byte(body), &answer) != nil || answer.Code != c.code || answer.Error == "") {
				t.Errorf("body %s, want code %s", body, c.code)
			}
			if strings.Contains(body, "password") {
				t.Errorf("the cause got out: %s", body)
			}
			challenge := resp.Header.Get("WWW-Authenticate")
			if (c.status == 401) != strings.HasPrefix(challenge, `Bearer realm="notifications"`) {
				t.Errorf("challenge %q", challenge)
			}
			if c.code == "missing_token" && strings.Contains(challenge, "error=") {
				t.Errorf("a request without a token is told an error: %q", challenge)
			}
			if (c.status == 503) != (resp.Header.Get("Retry-After") != "") {
				t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
			}
			if c.status == 405 && resp.Header.Get("Allow") != "GET, HEAD, OPTIONS" {
				t.Errorf("Allow %q", resp.Header.Get("Allow"))
			}
			if c.status == 200 {
				for name, want := range map[string]string{"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"} {
					if got := resp.Header.Get(name); got != want {
						t.Errorf("%s %q, want %q", name, got, want)
					}
				}
			}
		})
	}
}

// Full, starting and draining are answers that pass: each says when to come
// back.
func TestUnavailable(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.MaxStreams = 1 })
	r.open("5", "").expect("connected", "")
	const path = "/api/notifications/stream/?token=7"
	expect := func(code string) {
		t.Helper()
		resp, body := r.request("GET", path, nil)
		if resp.StatusCode != 503 || !strings.Contains(body, `"code":"`+code+`"`) || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%d %s, want 503 %s", resp.StatusCode, body, code)
		}
	}
	expect("full")
	r.Drain(t.Context())
	expect("draining")
	fresh := New(r.config, r.source, fakeVerifier{}, prometheus.NewRegistry())
	w := httptest.NewRecorder()
	fresh.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "starting") {
		t.Errorf("%d %s, want 503 starting", w.Code, w.Body)
	}
}

// A cookie that scripts can read, that goes to other sites or outlives its
// token would be worse than the token in the URL.
func TestSession(t *testing.T) {
	expires := time.Now().Add(time.Hour)
	r := setup(t, func(_ *Config, v *fakeVerifier) { v.expires = expires })
	const session = "/api/notifications/session/"
	resp, _ := r.request("POST", session, map[string]string{"Authorization": "Bearer 5"})
	cookies := resp.Cookies()
	if resp.StatusCode != 204 || len(cookies) != 1 {
		t.Fatalf("%d, %v", resp.StatusCode, cookies)
	}
	c := cookies[0]
	if c.Name != "session" || c.Value != "5" || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != "/api/notifications/" ||
		c.Expires.Unix() != expires.Unix() {
		t.Errorf("cookie %+v", c)
	}
	resp, _ = r.request("DELETE", session, map[string]string{"Cookie": "session=5"})
	if c := resp.Cookies(); resp.StatusCode != 204 || len(c) != 1 || c[0].MaxAge != -1 || c[0].Value != "" {
		t.Errorf("%d, %v", resp.StatusCode, c)
	}
	for _, header := range []map[string]string{nil, {"Cookie": "session=5"}, {"Authorization": "Bearer expired"}} {
		if resp, _ := r.request("POST", session, header); resp.StatusCode != 401 {
			t.Errorf("%v: status %d, want 401", header, resp.StatusCode)
		}
	}
	if resp, _ := r.request("POST", session+"?token=5", nil); resp.StatusCode != 401 {
		t.Errorf("a token in the URL made a cookie: %d", resp.StatusCode)
	}
	if resp, _ := r.request("DELETE", session, map[string]string{"Origin": "https://evil.example.com"}); resp.StatusCode != 403 {
		t.Errorf("another site ended the session: %d", resp.StatusCode)
	}
}

// Credentials for an origin that was not listed would open the stream to any
// page.
func TestCORS(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.AllowedOrigins = []string{"https://crm.example.com"} })
	for origin, allowed := range map[string]bool{"https://crm.example.com": true, "https://crm.example.com.evil": false, "http://crm.example.com": false, "null": false} {
		resp, _ := r.request("OPTIONS", "/api/notifications/stream/", map[string]string{"Origin": origin, "Access-Control-Request-Method": "GET"})
		h := resp.Header
		if resp.StatusCode != 204 || h.Get("Vary") != "Origin" || (h.Get("Access-Control-Allow-Origin") == origin) != allowed || (h.Get("Access-Control-Allow-Credentials") == "true") != allowed {
			t.Errorf("%s: %d %v", origin, resp.StatusCode, h)
		}
	}
}

// An address that the client writes itself must not get it a fresh bucket.
func TestLimiterAddress(t *testing.T) {
	l := newLimiter(1, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
	for _, c := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1"},
		{"192.0.2.1:5", "198.51.100.9", "192.0.2.1"},
		{"10.0.0.1:5", "198.51.100.9", "198.51.100.9"},
		{"10.0.0.1:5", "1.1.1.1, 198.51.100.9, 10.0.0.2", "198.51.100.9"},
		{"10.0.0.1:5", "nonsense", "10.0.0.1"},
		{"[::ffff:10.0.0.1]:5", "2001:db8::1", "2001:db8::"},
		{"10.0.0.1:5", "198.51.100.9:4711", "198.51.100.9"},
		{"10.0.0.1:5", "[2001:db8::7]:4711", "2001:db8::"},
		{"10.0.0.1:5", "198.51.100.9,", "10.0.0.1"},
		{"[2001:db8:1:2:3:4:5:6]:5", "", "2001:db8:1:2::"},
		{"[fe80::1%eth0]:5", "", "fe80::"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got, _ := l.address(r); got.String() != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	now := time.Now()
	if _, ok := l.allow(r, now); !ok {
		t.Error("the first was refused")
	}
	if wait, ok := l.allow(r, now); ok || wait <= 0 || wait > time.Minute {
		t.Errorf("the second: %v, %t", wait, ok)
	}
	if _, ok := l.allow(r, now.Add(time.Minute)); !ok {
		t.Error("a minute later it was refused")
	}
}

func TestTooManyRequests(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.ConnectsPerMinute = 1 })
	r.request("GET", "/api/notifications/stream/", nil)
	resp, body := r.request("GET", "/api/notifications/stream/?token=5", nil)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "too_many_requests") {
		t.Errorf("%d %s %v", resp.StatusCode, body, resp.Header)
	}
	if n := testutil.ToFloat64(r.metrics.refused.WithLabelValues("too_many_requests")); n != 1 { // an operator saw nothing of it
		t.Errorf("%v requests were counted as refused", n)
	}
}

// A client whose position stands under another spelling believed that it had
// resumed, and missed rows without a word.
func TestSpellingsOfTheLastEventID(t *testing.T) {
	r := setup(t, nil)
	start := r.open("5", "").expect("connected", "").id
	r.deliver(r.source.add("5"))
	for _, name := range []string{"last_event_id", "lastEventId", "Last-Event-ID", "LAST_EVENT_ID", "lasteventid"} {
		c := r.open("5", "&"+name+"="+start)
		r.deliver(r.source.add("5")) // what a stream gets that has not resumed
		c.expect("connected", "")
		if e := c.next(); e.data != `{"id":2}` {
			t.Errorf("%s: the first notification is %s, want the one that was missed", name, e.data)
		}
	}
	c := r.open("5", "&lastEventId=nonsense", "Last-Event-ID", start)
	c.expect("connected", "")
	c.expect("notification", `{"id":2}`) // the header wins
}

// Envoy and Linkerd announce an empty body as chunked where an HTTP/2 request ends
// with an empty frame. Only bytes are a body.
func TestEmptyChunkedBodyIsNone(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		for body, want := range map[string]string{"0\r\n\r\n": "200", "1\r\nx\r\n0\r\n\r\n": "400", "x\r\n": "400"} {
			c := r.dial()
			fmt.Fprintf(c, "GET /api/notifications/stream/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 5\r\nTransfer-Encoding: chunked\r\n\r\n%s", body)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				r.Fatalf("%q: %v", body, err)
			}
			if !strings.HasPrefix(resp.Status, want) || len(resp.Header.Values("Connection")) > 1 {
				r.Errorf("%q: %s %v, want %s", body, resp.Status, resp.Header, want)
			}
			if want == "200" {
				lines := &client{r.T, resp.Body, bufio.NewReader(resp.Body)}
				lines.expect("connected", "")
				r.deliver(r.source.add("5"))
				lines.expect("notification", "")
			}
		}
	})
}

// A deadline for the request's body that outlives the body would end the stream.
func TestBodyDeadlineEndsWithTheBody(t *testing.T) {
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest("GET", "/", http.NoBody)
	r.ContentLength = -1
	setHeaders(w, r)
	if hasBody(w, r) {
		t.Error("no byte is a body")
	}
	if len(w.read) == 0 || !w.read[len(w.read)-1].IsZero() {
		t.Errorf("the deadlines were %v, want none at the end", w.read)
	}
}

// Browsers drop a cookie of more than 4,096 bytes without a word: the page would
// believe that it has a session.
func TestTokenTooLargeForACookie(t *testing.T) {
	r := setup(t, nil)
	for size, want := range map[int]int{4096 - len("session"): 204, 4097 - len("session"): 413} {
		resp, body := r.request("POST", "/api/notifications/session/", map[string]string{"Authorization": "Bearer " + strings.Repeat("5", size)})
		if resp.StatusCode != want || (want == 413) != strings.Contains(body, `"token_too_large"`) || (want == 413) != (len(resp.Cookies()) == 0) {
			t.Errorf("a token of %d bytes: %d %s", size, resp.StatusCode, body)
		}
	}
}

// A plain EventSource never connects again after 429 or 503. Where no proxy tries
// another replica, the stream itself says when to come again.
func TestUnavailableByStream(t *testing.T) {
	bothWays(t, func(c *Config, _ *fakeVerifier) { c.MaxStreams = 1 }, func(r *rig) {
		r.open("5", "").expect("connected", "")
		for _, method := range []string{"GET", "HEAD"} {
			req, err := http.NewRequest(method, r.server.URL+"/api/notifications/stream/?token=7&unavailable=retry", nil)
			if err != nil {
				r.Fatal(err)
			}
			resp, err := r.server.Client().Do(req)
			if err != nil {
				r.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
				r.Fatalf("%s: %s %v %v", method, resp.Status, resp.Header, err)
			}
			form := regexp.MustCompile(`^event: error\nretry: ([5-7]\d{3})\ndata: {"code":"unavailable","message":"[^"]+"}\n\n$`)
			if method == "GET" && !form.Match(body) {
				r.Errorf("the stream is %q", body)
			}
		}
		if refused, opened := testutil.ToFloat64(r.metrics.refused.WithLabelValues("full")), testutil.ToFloat64(r.metrics.opened); refused != 2 || opened != 1 {
			r.Errorf("%v refused and %v opened, want 2 and 1", refused, opened)
		}
		for _, query := range []string{"?unavailable=no", "?unavailable=retry&unavailable=retry"} {
			if resp, _ := r.request("GET", "/api/notifications/stream/"+query, nil); resp.StatusCode != 400 {
				r.Errorf("%s: %d, want 400", query, resp.StatusCode)
			}
		}
	})
}

// What will not pass by itself must stay a refusal: an EventSource that is told to
// come again would come for ever.
func TestRefusalsAreNoStreams(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.ConnectsPerMinute = 3 })
	for _, c := range []struct {
		method, query string
		want          int
	}{
		{"GET", "stream/?token=expired&unavailable=retry", 401},
		{"GET", "stream/?token=nobody&unavailable=retry", 403},
		{"GET", "stream/?token=broken&unavailable=retry", 200},
		{"GET", "stream/?token=5&unavailable=retry", 200}, // too many of this address
		{"POST", "session/?unavailable=retry", 429},
	} {
		if resp, _ := r.request(c.method, "/api/notifications/"+c.query, nil); resp.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", c.query, resp.StatusCode, c.want)
		}
	}
	if n := testutil.ToFloat64(r.metrics.opened); n != 0 {
		t.Errorf("%v streams were opened", n)
	}
}

// Who routes must hear of it before streams are refused, and not be told the
// opposite with each stream that comes and goes.
func TestFullHasAMarginBothWays(t *testing.T) {
	for most, steps := range map[int][]struct {
		open int
		full bool
	}{
		1:      {{0, false}, {1, true}, {0, false}},
		10:     {{9, false}, {10, true}, {9, false}},
		100:    {{97, false}, {98, true}, {97, true}, {96, true}, {95, false}, {97, false}, {98, true}},
		100000: {{97999, false}, {98000, true}, {95001, true}, {95000, false}},
	} {
		f := fullness{max: most}
		for i, step := range steps {
			if got := f.judge(step.open); got != step.full {
				t.Errorf("step %d: %d of %d are open, full: %t", i, step.open, most, got)
			}
		}
	}
}

// A bucket that is all but full again gave a wait of no time at all: no
// Retry-After, and no stream that says when to come again.
func TestTooManyRequestsNamesATime(t *testing.T) {
	r := setup(t, nil)
	for _, wait := range []time.Duration{0, 1, time.Minute} {
		for query, want := range map[string]string{"": "Retry-After", "?unavailable=retry": "retry: "} {
			w := httptest.NewRecorder()
			r.answer(w, httptest.NewRequest("GET", "/api/notifications/stream/"+query, nil), errTooMany(wait))
			if got := fmt.Sprint(w.Header(), w.Body); !strings.Contains(got, want) {
				t.Errorf("a wait of %v with %q: %s", wait, query, got)
			}
		}
	}
}

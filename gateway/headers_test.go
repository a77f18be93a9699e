package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pipeListener hands out the server's ends of pipes, so that deadlines run on
// a bubble's clock.
type pipeListener struct{ conns chan net.Conn }

func (l pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// A client that announces a body and does not send it, or that takes no
// answers, must not hold a connection for ever: net/http alone lets it.
func TestHalfRequestsAreCutOff(t *testing.T) {
	for name, request := range map[string]string{
		"POST":    "POST /api/notifications/session/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
		"chunked": "DELETE /api/notifications/session/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET":     "GET /api/notifications/stream/?token=5 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
		"OPTIONS": "OPTIONS /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
		"no read": strings.Repeat("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 2),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := New(Config{PathPrefix: "/api/notifications", PingInterval: time.Hour, MaxStreams: 1}, &fakeSource{}, fakeVerifier{}, prometheus.NewRegistry())
				closed := make(chan struct{})
				server := &http.Server{Handler: g.Handler(), ReadHeaderTimeout: time.Second, ConnState: func(_ net.Conn, s http.ConnState) {
					if s == http.StateClosed {
						close(closed)
					}
				}}
				l := pipeListener{make(chan net.Conn, 1)}
				client, end := net.Pipe()
				l.conns <- end
				go server.Serve(l)
				go io.WriteString(client, request)
				if name != "no read" {
					go io.Copy(io.Discard, client)
				}
				select {
				case <-closed:
				case <-time.After(time.Hour): // the bubble's clock
					t.Error("the connection is still open after an hour")
				}
				client.Close()
				close(l.conns)
				server.Close()
			})
		})
	}
}

// A deadline that outlives its write ends an HTTP/2 stream that only waits.
func TestWriteDeadlineEndsWithTheWrite(t *testing.T) {
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	q := newHTTPTransport(1<<16, func(*event, int, error) {})
	q.Send(pingEvent("", time.Now()))
	q.End(pingEvent("", time.Now()))
	if err := q.write(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if len(w.set) == 0 || !w.set[len(w.set)-1].IsZero() {
		t.Errorf("the deadlines were %v, want none at the end", w.set)
	}
}

type deadlines struct {
	*httptest.ResponseRecorder
	set  []time.Time // for writes
	read []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.read = append(d.read, t)
	return nil
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// One path has one spelling: where %2F or %73 also reached the stream, the
// rules of a proxy in front could be walked around.
func TestPathTricks(t *testing.T) {
	r := setup(t, nil)
	for path, want := range map[string]int{
		"/api/notifications/stream/": 200, "/api/notifications/stream": 200,
		"//api/notifications/stream/": 404, "/api//notifications/stream/": 404, "/api/notifications/stream//": 404,
		"/api%2fnotifications/stream/": 404, "/api/notifications/%73tream/": 404, "/api/notifications/stream%2f": 404,
		"/api/./notifications/stream/": 404, "/api/x/../notifications/stream/": 404, "/API/notifications/stream/": 404,
		"/api/notifications/stream/%00": 404, "/api/notifications/stream/;x": 404, "/api/notifications\\stream/": 404,
		"http://evil.example/api/notifications/stream/": 200, "*": 404,
	} {
		if resp := r.raw("GET "+path+" HTTP/1.1", "Host: x", "Authorization: Bearer 5"); resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// raw sends a head as it stands, which http.Client would mend.
func (r *rig) raw(lines ...string) *http.Response {
	r.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.server.URL, "http://"))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "%s\r\n\r\n", strings.Join(lines, "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		r.Fatalf("%s: %v", lines[0], err)
	}
	return resp
}

// What a proxy and a server could read differently must be refused, not
// guessed at: two tokens, two cookies, broken lines, two lengths.
func TestHostileHeads(t *testing.T) {
	r := setup(t, nil)
	const get = "GET /api/notifications/stream/ HTTP/1.1"
	for name, c := range map[string]struct {
		lines []string
		want  int
	}{
		"two Authorization":       {[]string{get, "Host: x", "Authorization: Bearer 5", "Authorization: Bearer 7"}, 401},
		"a Basic one first":       {[]string{get, "Host: x", "Authorization: Basic eA==", "Authorization: Bearer 5"}, 401},
		"folded Authorization":    {[]string{get, "Host: x", "Authorization: Bearer", " 5"}, 200},
		"two cookie headers":      {[]string{get, "Host: x", "Cookie: session=5", "Cookie: session=7"}, 401},
		"cookie and bad header":   {[]string{get, "Host: x", "Cookie: session=5", "Authorization: Bearer ,"}, 401},
		"cookie in another case":  {[]string{get, "Host: x", "Cookie: SESSION=5"}, 401},
		"cookie, Origin null":     {[]string{get, "Host: x", "Cookie: session=5", "Origin: null"}, 403},
		"cookie, two Origins":     {[]string{get, "Host: x", "Cookie: session=5", "Origin: http://x", "Origin: http://evil"}, 403},
		"cookie, Origin a prefix": {[]string{get, "Host: x", "Cookie: session=5", "Origin: http://x.evil"}, 403},
		"cookie, Origin a user":   {[]string{get, "Host: x", "Cookie: session=5", "Origin: http://x@evil"}, 403},
		"cookie, Origin path":     {[]string{get, "Host: x", "Cookie: session=5", "Origin: http://evil/http://x"}, 403},
		"cookie, upper-case":      {[]string{get, "Host: x", "Cookie: session=5", "Origin: HTTP://X"}, 200},
		"two Hosts":               {[]string{get, "Host: x", "Host: y", "Authorization: Bearer 5"}, 400},
		"two lengths":             {[]string{"POST /api/notifications/session/ HTTP/1.1", "Host: x", "Content-Length: 1", "Content-Length: 2"}, 400},
		"length and chunked":      {[]string{get, "Host: x", "Authorization: Bearer 5", "Content-Length: 5", "Transfer-Encoding: chunked"}, 400},
		"NUL":                     {[]string{get, "Host: x", "Authorization: Bearer 5\x00"}, 400},
		"lone CR":                 {[]string{get, "Host: x", "Authorization: Bearer 5\rX: y"}, 400},
		"CRLF in the query":       {[]string{"GET /api/notifications/stream/?token=5%0d%0aX:y HTTP/1.1", "Host: x"}, 401},
		"CRLF in Last-Event-ID":   {[]string{"GET /api/notifications/stream/?token=5&last_event_id=a%0d%0adata:x HTTP/1.1", "Host: x"}, 200},
		"HTTP/1.0":                {[]string{"GET /api/notifications/stream/ HTTP/1.0", "Authorization: Bearer 5"}, 200},
		"method in lower case":    {[]string{"get /api/notifications/stream/ HTTP/1.1", "Host: x", "Authorization: Bearer 5"}, 405},
		"TRACE":                   {[]string{"TRACE /api/notifications/stream/ HTTP/1.1", "Host: x"}, 405},
		"method override":         {[]string{"POST /api/notifications/stream/ HTTP/1.1", "Host: x", "X-HTTP-Method-Override: GET", "Authorization: Bearer 5"}, 405},
		"Upgrade":                 {[]string{get, "Host: x", "Authorization: Bearer 5", "Connection: Upgrade", "Upgrade: websocket"}, 200},
	} {
		resp := r.raw(c.lines...)
		if resp.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, c.want)
		}
		if resp.Header.Get("X") != "" {
			t.Errorf("%s: a header was injected", name)
		}
	}
}

// Every answer, also an error's, must keep a browser from sniffing, framing
// and telling the URL, which may hold a token, to others.
func TestSecurityHeaders(t *testing.T) {
	r := setup(t, nil)
	for _, c := range [][2]string{
		{"GET", "/api/notifications/stream/?token=5"},
		{"GET", "/api/notifications/stream/"},
		{"PUT", "/api/notifications/stream/"},
		{"OPTIONS", "/api/notifications/stream/"},
		{"POST", "/api/notifications/session/"},
		{"DELETE", "/api/notifications/session/"},
		{"GET", "/"},
	} {
		resp, _ := r.request(c[0], c[1], nil)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s %s: %s is %q, want %q", c[0], c[1], name, got, want)
			}
		}
		if cache := resp.Header.Get("Cache-Control"); resp.StatusCode != 200 && c[0] != "OPTIONS" && cache != "no-store" {
			t.Errorf("%s %s: Cache-Control is %q", c[0], c[1], cache)
		}
	}
}

// Somebody with a network of addresses must neither get a fresh bucket for
// each nor shut everybody else out when the memory for buckets is full.
func TestLimiterUnderManyAddresses(t *testing.T) {
	l := newLimiter(1, nil)
	now := time.Now()
	from := func(a netip.Addr) bool {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = netip.AddrPortFrom(a, 5).String()
		_, ok := l.allow(r, now)
		return ok
	}
	if !from(netip.MustParseAddr("2001:db8::1")) || from(netip.MustParseAddr("2001:db8::2")) {
		t.Error("each address of one network has a bucket of its own")
	}
	for i := range maxBuckets + 10 {
		from(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if len(l.buckets) > maxBuckets {
		t.Errorf("%d buckets", len(l.buckets))
	}
	if !from(netip.MustParseAddr("192.0.2.1")) {
		t.Error("a newcomer is shut out by the others' addresses")
	}
}

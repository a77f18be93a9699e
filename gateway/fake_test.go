package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store"
)

// fakeSource is a log in memory: position n means that the first n rows have
// been seen.
type fakeSource struct {
	mu       sync.Mutex
	rows     []store.Notification    // guarded by mu
	known    map[string]store.Cursor // by text; guarded by mu
	unread   []store.Notification    // guarded by mu
	list     store.UnreadList        // what Unread returns beside the entries; guarded by mu
	loads    int                     // rows loaded; guarded by mu
	counts   int                     // CountUnread asked; guarded by mu
	replays  int                     // Replay and Unread asked; guarded by mu
	waiting  int                     // calls of Replay that began to wait for replayed; guarded by mu
	replayed chan struct{}           // when not nil, Replay waits for it
	given    chan struct{}           // closed when such a wait was given up
	panics   bool                    // Replay does; guarded by mu
	late     string                  // an item that Load cannot bring in time; guarded by mu
	err      error                   // guarded by mu
}

func (f *fakeSource) cursor(n int) store.Cursor {
	c := store.MakeCursor([16]byte{1}, 1, time.Unix(1_700_000_000, 0), store.Snapshot{Xmax: uint64(n) + 1})
	f.known[c.String()] = c
	return c
}

// add appends rows for users and returns the batch that brings them.
func (f *fakeSource) add(users ...string) store.Batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b store.Batch
	for _, user := range users {
		n := len(f.rows) + 1
		e := store.Entry{XID: uint64(n), UserKey: user, ItemID: fmt.Sprint(n), InsertedAt: time.Now()}
		f.rows = append(f.rows, store.Notification{Entry: e, Data: fmt.Appendf(nil, `{"id":%d}`, n)})
		b.Entries = append(b.Entries, e)
	}
	b.Cursor = f.cursor(len(f.rows))
	return b
}

func (f *fakeSource) ParseCursor(text string) (store.Cursor, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.known[text]
	if !ok {
		return store.Cursor{}, fmt.Errorf("test: %w", &store.ResetError{Reason: "malformed"})
	}
	return c, nil
}

func (f *fakeSource) Load(_ context.Context, entries []store.Entry) ([]store.Notification, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	f.loads += len(entries)
	var out []store.Notification
	for _, e := range entries {
		n := f.rows[e.XID-1]
		n.Entry = e
		if e.ItemID == f.late {
			n.Data, n.Err = nil, store.ErrRowTimeout
		}
		out = append(out, n)
	}
	return out, nil
}

func (f *fakeSource) Replay(ctx context.Context, reader store.Reader, from, to store.Cursor, after store.Place, rows, bytes int) (store.Page, error) {
	if f.replayed != nil {
		f.mu.Lock()
		f.waiting++
		f.mu.Unlock()
		select {
		case <-f.replayed:
		case <-ctx.Done():
			if f.given != nil {
				close(f.given)
			}
			return store.Page{}, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replays++
	if f.panics {
		panic(http.ErrAbortHandler) // which net/http does not log
	}
	if f.err != nil {
		return store.Page{}, f.err
	}
	var page store.Page
	begin := 1 + slices.IndexFunc(f.rows, func(n store.Notification) bool { return n.Place() == after })
	for _, n := range f.rows[begin:] {
		if !slices.Contains(reader.Keys, n.UserKey) || n.Change != "" && !reader.Changes || !to.Sees(n.Entry) || from.SameIncarnation(to) && from.Sees(n.Entry) {
			continue
		}
		if len(page.Notifications) == rows || bytes <= 0 {
			page.More = true
			break
		}
		page.Notifications = append(page.Notifications, n)
		page.After = append(page.After, f.cursor(int(n.XID)))
		page.Next = n.Place()
		bytes -= len(n.Data)
	}
	return page, nil
}

// counted returns how often CountUnread was asked.
func (f *fakeSource) counted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// CountUnread counts all rows of a user.
func (f *fakeSource) CountUnread(_ context.Context, userKey string) (n int, more bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, row := range f.rows {
		if row.UserKey == userKey && row.Change == "" {
			n++
		}
	}
	f.counts++
	return n, n > 1000, f.err
}

func (f *fakeSource) Unread(context.Context, string, int) (store.UnreadList, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replays++
	list := f.list
	list.Entries = make([]store.Entry, len(f.unread))
	return list, f.err
}

// LoadPage brings the unread one by one.
func (f *fakeSource) LoadPage(_ context.Context, rest []store.Entry, _ int) ([]store.Notification, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := len(f.unread) - len(rest)
	return f.unread[i : i+1], f.err
}

// isAsked reports whether a Replay waits for replayed.
func (f *fakeSource) isAsked() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting > 0
}

func (f *fakeSource) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replays
}

// fail makes every question fail with err; nil mends it.
func (f *fakeSource) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeSource) Recipient(_ context.Context, subject string) (store.Recipient, error) {
	switch subject {
	case "nobody":
		return store.Recipient{}, store.ErrNoRecipient
	case "broken":
		return store.Recipient{}, errors.New("postgres://user:password@host is away")
	}
	if key, also, ok := strings.Cut(subject, ".also."); ok {
		return store.Recipient{UserKey: key, Subject: subject, Also: strings.ReplaceAll(also, ".", "\n")}, nil
	}
	return store.Recipient{UserKey: subject, Subject: subject, Numeric: strings.Trim(subject, "0123456789") == ""}, nil
}

// fakeVerifier takes a token for its subject.
type fakeVerifier struct{ expires, goodUntil time.Time }

func (v fakeVerifier) Verify(_ context.Context, token string) (auth.Identity, error) {
	switch token {
	case "expired":
		return auth.Identity{}, &auth.Error{Code: "invalid_token", Reason: "expired"}
	case "keyless":
		return auth.Identity{}, auth.ErrUnavailable
	}
	if user, groups, ok := strings.Cut(token, "_"); ok {
		return auth.Identity{Subject: user, Groups: strings.Fields("group:" + strings.ReplaceAll(groups, "_", " group:"))}, nil
	}
	return auth.Identity{Subject: token, Expires: v.expires, GoodUntil: v.goodUntil}, nil
}

// rig is a gateway on a real HTTP server.
type rig struct {
	*testing.T
	*Gateway
	source *fakeSource
	server *httptest.Server

	connections atomic.Int32 // that the server has accepted
}

func setup(t *testing.T, change func(*Config, *fakeVerifier)) *rig {
	t.Helper()
	return setupTransport(t, overEpoll, change)
}

// How a test's client reaches the gateway; that decides on the transport.
const (
	overEpoll = "epoll" // plain HTTP/1.1
	overTLS   = "tls"   // HTTP/1.1
	overHTTP2 = "http2"
)

// bothWays runs a test with each transport.
func bothWays(t *testing.T, change func(*Config, *fakeVerifier), test func(r *rig)) {
	for _, way := range []string{overEpoll, overTLS} {
		t.Run(way, func(t *testing.T) { test(setupTransport(t, way, change)) })
	}
}

func setupTransport(t *testing.T, way string, change func(*Config, *fakeVerifier)) *rig {
	t.Helper()
	config := Config{
		PathPrefix: "/api/notifications", PingInterval: time.Hour, CursorRefresh: time.Hour, MaxStreams: 1000, MaxStreamsPerUser: 20,
		StreamBuffer: 1 << 16, ReplayLimit: 100, Drain: 100 * time.Millisecond, CookieName: "session", Logger: slog.New(slog.DiscardHandler),
	}
	var verifier fakeVerifier
	if change != nil {
		change(&config, &verifier)
	}
	source := &fakeSource{known: map[string]store.Cursor{}}
	g := New(config, source, verifier, prometheus.NewRegistry())
	server := httptest.NewUnstartedServer(g.Handler())
	r := &rig{T: t, Gateway: g, source: source, server: server}
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			r.connections.Add(1)
		}
		g.ConnState(c, state)
	}
	server.EnableHTTP2 = way == overHTTP2
	if way != overEpoll {
		server.StartTLS() // whose connections cannot be taken over
	} else {
		server.Start()
	}
	if g.poller != nil {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); g.poller.run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	r.deliver(source.add("nobody"))
	return r
}

// dial opens a connection whose bytes are written by hand.
func (r *rig) dial() net.Conn {
	r.Helper()
	address := r.server.Listener.Addr().String()
	var c net.Conn
	var err error
	if r.server.TLS != nil {
		c, err = tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	} else {
		c, err = net.Dial("tcp", address)
	}
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil { // a missing byte is a failure, not a test that hangs
		r.Fatal(err)
	}
	return c
}

func (r *rig) deliver(b store.Batch) {
	r.Helper()
	if err := r.Deliver(context.Background(), b); err != nil {
		r.Fatal(err)
	}
}

// streamOf is a user's oldest stream.
func (r *rig) streamOf(user string) *stream {
	r.Helper()
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	if len(r.hub.streams.of(user)) == 0 {
		r.Fatalf("user %s has no stream", user)
	}
	return r.hub.streams.of(user)[0]
}

// client reads one stream.
type client struct {
	*testing.T
	body  io.ReadCloser
	lines *bufio.Reader
}

// received is one event as a client sees it.
type received struct{ id, event, data, raw string }

func (r *rig) open(token, query string, header ...string) *client {
	r.Helper()
	// A missing event is a failure, not a test that hangs.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	r.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.server.URL+"/api/notifications/stream/?"+tokenParameter(token)+query, nil)
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.server.Client().Do(req)
	if err != nil {
		r.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		r.Fatalf("status %d", resp.StatusCode)
	}
	r.Cleanup(func() { resp.Body.Close() })
	return &client{r.T, resp.Body, bufio.NewReader(resp.Body)}
}

// start begins to read a body.
func (c *client) start() *client {
	c.lines = bufio.NewReader(c.body)
	return c
}

// next reads an event; at the end of the stream its event is "end".
func (c *client) next() received {
	c.Helper()
	var e received
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			return received{event: "end"}
		}
		e.raw += line
		if line == "\n" {
			return e
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.event = value
		case "data":
			e.data = value
		}
	}
}

func (c *client) expect(event, data string) received {
	c.Helper()
	e := c.next()
	if e.event != event || !strings.Contains(e.data, data) {
		c.Fatalf("got %s %s, want %s %s", e.event, e.data, event, data)
	}
	return e
}

// tokenParameter is the token as a parameter of the query; none for no token.
func tokenParameter(token string) string {
	if token == "" {
		return ""
	}
	return "token=" + token
}

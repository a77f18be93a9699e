//go:build e2e

package web

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

//go:embed testdata/tab.js
var tabScript []byte

// front is the CRM's web server over HTTP/1.1, with the gateway behind it. It
// counts streams, and does to them what networks and servers do.
type front struct {
	server *httptest.Server
	db     *throwaway.DB
	proxy  *httputil.ReverseProxy
	tabs   int // opened so far; the test's goroutine

	mu     sync.Mutex
	target *url.URL                                      // guarded by mu
	open   map[*http.Request]context.CancelFunc          // streams; guarded by mu
	opened []time.Time                                   // when; guarded by mu
	closed []time.Time                                   // when; guarded by mu
	most   int                                           // streams at a time; guarded by mu
	answer func(http.ResponseWriter, *http.Request) bool // answers a stream's request instead of the gateway; guarded by mu
	pings  int                                           // that were passed on; guarded by mu
	dead   bool                                          // streams give no more bytes; guarded by mu
	life   time.Duration                                 // of a token; guarded by mu
	late   time.Duration                                 // how far the Date header is behind; guarded by mu
	hold   chan struct{}                                 // a token that is asked for anew waits for its end; guarded by mu
	out    bool                                          // nobody is signed in; guarded by mu
}

func newFront(t *testing.T, db *throwaway.DB) *front {
	f := &front{db: db, open: map[*http.Request]context.CancelFunc{}, life: time.Hour}
	f.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			f.mu.Lock()
			defer f.mu.Unlock()
			r.SetURL(f.target)
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.late > 0 {
				resp.Header.Set("Date", time.Now().Add(-f.late).UTC().Format(http.TimeFormat))
			}
			return nil
		},
		FlushInterval: -1,
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:      log.New(io.Discard, "", 0),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/api/notifications/", f.serveGateway)
	mux.HandleFunc("GET /tab", func(w http.ResponseWriter, _ *http.Request) {
		// The strictest policy that lets a page run its own files.
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'")
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><title>tab</title><script type="module" src="/tab.js"></script>`)
	})
	mux.HandleFunc("GET /tab.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		w.Write(tabScript)
	})
	mux.HandleFunc("GET /token", f.serveToken)
	mux.HandleFunc("GET /list", f.serveList)
	mux.HandleFunc("GET /crm", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the CRM answers") })
	f.server = httptest.NewServer(mux)
	t.Cleanup(f.server.Close)
	t.Cleanup(f.server.CloseClientConnections)
	return f
}

// set changes what the front does.
func (f *front) set(change func(*front)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *front) use(address string) {
	target, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	f.set(func(f *front) { f.target = target })
}

// cut breaks every open stream, as a network that fails.
func (f *front) cut() {
	f.set(func(f *front) {
		for _, cancel := range f.open {
			cancel()
		}
	})
}

// count says how many streams were opened, and how many were open at a time.
func (f *front) count() (opened, most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.opened), f.most
}

// forget begins to count anew.
func (f *front) forget() {
	f.set(func(f *front) { f.opened, f.closed, f.most = nil, nil, len(f.open) })
}

func (f *front) pinged() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pings
}

func (f *front) streams() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open)
}

// serveGateway passes a request on, and follows it where it is a stream.
func (f *front) serveGateway(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	answer := f.answer
	f.mu.Unlock()
	stream := r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/stream/")
	if stream {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		r = r.WithContext(ctx)
		f.set(func(f *front) {
			f.open[r] = cancel
			f.opened = append(f.opened, time.Now())
			f.most = max(f.most, len(f.open))
		})
		defer f.set(func(f *front) {
			delete(f.open, r)
			f.closed = append(f.closed, time.Now())
		})
		w = &line{ResponseWriter: w, front: f}
	}
	if stream && answer != nil && answer(w, r) {
		return
	}
	f.proxy.ServeHTTP(w, r)
}

// line is a stream's way to the browser. Once it is dead, it stays dead.
type line struct {
	http.ResponseWriter
	front *front
	dead  bool
}

func (l *line) Write(b []byte) (int, error) {
	l.front.mu.Lock()
	l.dead = l.dead || l.front.dead
	if bytes.Contains(b, []byte("event: ping\n")) {
		l.front.pings++
	}
	l.front.mu.Unlock()
	if l.dead {
		return len(b), nil
	}
	return l.ResponseWriter.Write(b)
}

func (l *line) Unwrap() http.ResponseWriter { return l.ResponseWriter }

// serveToken is the CRM's login.
func (f *front) serveToken(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	life, out, hold := f.life, f.out, f.hold
	f.mu.Unlock()
	if hold != nil && r.URL.Query().Get("refused") == "true" {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}
	user, err := strconv.Atoi(r.URL.Query().Get("user"))
	if out || err != nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	fmt.Fprint(w, f.mint(user, life))
}

// token is one that lasts.
func (f *front) token(user int) string { return f.mint(user, time.Hour) }

func (f *front) mint(user int, life time.Duration) string {
	token, err := auth.Mint([]byte(secret), map[string]any{
		"user_id": user, "token_type": "access", "exp": float64(time.Now().Add(life).UnixMilli()) / 1000,
		"jti": fmt.Sprint(time.Now().UnixNano()),
	})
	if err != nil { // the claims are ours
		panic(err)
	}
	return token
}

// serveList is the CRM's list of a user's notifications.
func (f *front) serveList(w http.ResponseWriter, r *http.Request) {
	var list []byte
	err := f.db.QueryRow(r.Context(), []any{&list}, "SELECT coalesce(jsonb_agg(id), '[]') FROM notifications WHERE user_id = $1::text::bigint", r.URL.Query().Get("user"))
	if err != nil || !json.Valid(list) {
		http.Error(w, fmt.Sprint(err), http.StatusInternalServerError)
		return
	}
	w.Write(list)
}

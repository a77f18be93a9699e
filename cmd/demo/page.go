package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
)

//go:embed web
var web embed.FS

// usersPath is in front of the gateway's path for each user of the page. In a
// CRM one browser has one user, and the session cookie is the host's. Here two
// users share a browser: a path for each keeps their cookies apart as cookies
// themselves do it (RFC 6265 section 5.1.4), without other host names, which
// may not resolve, or frames, which would hide the page's code.
const usersPath = "/users/"

const (
	tokenLife = 12 * time.Hour
	cutTime   = 5 * time.Second // how long a user's line stays cut
	maxBurst  = 100
)

// page serves the demo's page, plays the CRM for its buttons, and stands
// between the browser and the gateway as a proxy would, so that it can cut the
// line.
type page struct {
	stack *stack

	mu       sync.Mutex
	users    map[string]int                               // token → user; guarded by mu
	lines    map[int]map[*http.Request]context.CancelFunc // open requests by user; guarded by mu
	cutUntil map[int]time.Time                            // guarded by mu
	examples int                                          // counts inserts; guarded by mu
}

func newPage(s *stack) *page {
	return &page{stack: s, users: map[string]int{}, lines: map[int]map[*http.Request]context.CancelFunc{}, cutUntil: map[int]time.Time{}}
}

func (p *page) handler() http.Handler {
	files, err := fs.Sub(web, "web")
	if err != nil { // the folder is embedded
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServerFS(files))
	mux.HandleFunc("GET /demo/people", p.servePeople)
	mux.HandleFunc("POST /demo/insert", p.serveInsert)
	mux.HandleFunc("POST /demo/cut", p.serveCut)
	proxy := p.proxy()
	mux.HandleFunc("/api/notifications/", proxy)
	mux.HandleFunc(usersPath+"{user}/api/notifications/", proxy)
	return mux
}

// token mints what the CRM's login would give the user.
func (p *page) token(who person) (string, error) {
	claims, err := auth.Claims("user_id", strconv.Itoa(who.ID), tokenLife)
	if err != nil {
		return "", err
	}
	token, err := auth.Mint(p.stack.secret, claims)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users[token] = who.ID
	return token, nil
}

func (p *page) servePeople(w http.ResponseWriter, _ *http.Request) {
	type entry struct {
		person
		Token string `json:"token"`
	}
	var out []entry
	for _, who := range people {
		token, err := p.token(who)
		if err != nil {
			http.Error(w, "no token could be made", http.StatusInternalServerError)
			return
		}
		out = append(out, entry{who, token})
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(out) //nolint:errcheck // the page is gone
}

// command is what the page's buttons send.
type command struct {
	User  int    `json:"user"`
	Kind  string `json:"kind"`
	Count int    `json:"count"`
}

func readCommand(w http.ResponseWriter, r *http.Request) (command, bool) {
	c := command{Count: 1}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1024)).Decode(&c)
	if err != nil || c.Count < 1 || c.Count > maxBurst || (c.User != people[0].ID && c.User != people[1].ID) {
		http.Error(w, "the command is not one of this page's", http.StatusBadRequest)
		return c, false
	}
	return c, true
}

func (p *page) serveInsert(w http.ResponseWriter, r *http.Request) {
	c, ok := readCommand(w, r)
	if !ok {
		return
	}
	if _, known := inserts[c.Kind]; !known {
		http.Error(w, "the kind is task, lead or reminder", http.StatusBadRequest)
		return
	}
	for range c.Count {
		p.mu.Lock()
		p.examples++
		example := p.examples
		p.mu.Unlock()
		if err := p.stack.insert(r.Context(), c.User, c.Kind, example); err != nil {
			log.Printf("insert: %v", err)
			http.Error(w, "the row could not be inserted", http.StatusInternalServerError)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// serveCut breaks a user's connections as a dead network would, and keeps them
// broken for a while.
func (p *page) serveCut(w http.ResponseWriter, r *http.Request) {
	c, ok := readCommand(w, r)
	if !ok {
		return
	}
	p.mu.Lock()
	p.cutUntil[c.User] = time.Now().Add(cutTime)
	for _, cancel := range p.lines[c.User] {
		cancel()
	}
	p.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// proxy passes requests on to the gateway, event by event. The gateway knows
// nothing of the users' paths, so that the cookie's Path is put behind them.
func (p *page) proxy() http.HandlerFunc {
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(p.stack.public)
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, userPath(r.In))
			r.Out.URL.RawPath = ""
			r.Out.Host = r.In.Host // the gateway compares it with Origin
		},
		ModifyResponse: func(resp *http.Response) error {
			cookies := resp.Cookies()
			resp.Header.Del("Set-Cookie")
			for _, c := range cookies {
				c.Path = userPath(resp.Request) + c.Path
				resp.Header.Add("Set-Cookie", c.String())
			}
			return nil
		},
		FlushInterval: -1, // at once
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) {
			if !errors.Is(err, context.Canceled) {
				log.Printf("proxy: %v", err)
			}
			panic(http.ErrAbortHandler) // a broken line, not an answer: EventSource comes back
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		p.mu.Lock()
		user, err := strconv.Atoi(r.PathValue("user"))
		if err != nil { // a client that has its token in the URL
			user = p.users[r.URL.Query().Get("token")]
		}
		cut := time.Now().Before(p.cutUntil[user])
		if !cut {
			if p.lines[user] == nil {
				p.lines[user] = map[*http.Request]context.CancelFunc{}
			}
			p.lines[user][r] = cancel
		}
		p.mu.Unlock()
		if cut {
			panic(http.ErrAbortHandler)
		}
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.lines[user], r)
		}()
		forward.ServeHTTP(w, r.WithContext(ctx))
	}
}

// userPath is the part of a request's path that names a user of the page; ""
// for other clients.
func userPath(r *http.Request) string {
	if user := r.PathValue("user"); user != "" {
		return usersPath + user
	}
	return ""
}

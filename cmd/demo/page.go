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

// usersPath is in front of the gateway's path for each user of the page, so that
// the line of one can be cut. A CRM's page has one user and no such path.
const usersPath = "/users/"

const (
	tokenLife      = 12 * time.Hour
	shortTokenLife = 8 * time.Second // of one that expires before the viewer's eyes
	cutTime        = 5 * time.Second // how long a user's line stays cut
	maxBurst       = 100
)

// page serves the demo's page, plays the CRM for its buttons, and stands
// between the browser and the gateway as a proxy would, so that it can cut the
// line.
type page struct {
	stack *stack

	system sync.Mutex // held while Postgres or a replica is restarted

	mu       sync.Mutex
	users    map[string]int                               // token → user; guarded by mu
	lines    map[int]map[*http.Request]context.CancelFunc // open requests by user; guarded by mu
	cutUntil map[int]time.Time                            // guarded by mu
	short    map[int]bool                                 // whose next token expires soon; guarded by mu
	examples int                                          // counts inserts; guarded by mu
}

func newPage(s *stack) *page {
	return &page{stack: s, users: map[string]int{}, lines: map[int]map[*http.Request]context.CancelFunc{}, cutUntil: map[int]time.Time{}, short: map[int]bool{}}
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
	mux.HandleFunc("GET /demo/token", p.serveToken)
	mux.HandleFunc("POST /demo/read", p.serveRead)
	mux.HandleFunc("POST /demo/cut", p.serveCut)
	mux.HandleFunc("POST /demo/expire", p.serveExpire)
	mux.HandleFunc("POST /demo/postgres", p.servePostgres)
	mux.HandleFunc("POST /demo/replica", p.serveReplica)
	proxy := p.proxy()
	mux.HandleFunc("/api/notifications/", proxy)
	mux.HandleFunc(usersPath+"{user}/api/notifications/", proxy)
	return mux
}

// token mints what the CRM's login would give the user.
func (p *page) token(who person) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	life := tokenLife
	if p.short[who.ID] {
		life = shortTokenLife
		delete(p.short, who.ID)
	}
	claims, err := auth.Claims("user_id", strconv.Itoa(who.login), life)
	if err != nil {
		return "", err
	}
	token, err := auth.Mint(p.stack.secret, claims)
	if err != nil {
		return "", err
	}
	p.users[token] = who.ID
	return token, nil
}

func (p *page) servePeople(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]any{"people": people, "own": p.stack.killReplica != nil, "cut": cutTime.Seconds(), "token": shortTokenLife.Seconds()})
}

// serveToken is the CRM's login, which asks for no password here.
func (p *page) serveToken(w http.ResponseWriter, r *http.Request) {
	for _, who := range people {
		if r.URL.Query().Get("user") != strconv.Itoa(who.ID) {
			continue
		}
		token, err := p.token(who)
		if err != nil {
			http.Error(w, "no token could be made", http.StatusInternalServerError)
			return
		}
		answer(w, map[string]any{"token": token})
		return
	}
	http.Error(w, "nobody has this number", http.StatusNotFound)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(v) // the page is gone
}

// command is what the page's buttons send.
type command struct {
	User  int    `json:"user"`
	Kind  string `json:"kind"`
	ID    int    `json:"id"`
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
	ids := make([]int, 0, c.Count)
	for range c.Count {
		p.mu.Lock()
		p.examples++
		example := p.examples
		p.mu.Unlock()
		id, err := p.stack.insert(r.Context(), c.User, c.Kind, example)
		if err != nil {
			log.Printf("insert: %v", err)
			http.Error(w, "the row could not be inserted: Postgres does not answer", http.StatusInternalServerError)
			return
		}
		ids = append(ids, id)
	}
	answer(w, map[string]any{"ids": ids})
}

func (p *page) serveRead(w http.ResponseWriter, r *http.Request) {
	c, ok := readCommand(w, r)
	if !ok {
		return
	}
	if err := p.stack.markRead(r.Context(), c.User, c.ID); err != nil {
		log.Printf("mark as read: %v", err)
		http.Error(w, "the row could not be updated: Postgres does not answer", http.StatusInternalServerError)
		return
	}
	answer(w, map[string]any{})
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
	p.breakLinesLocked(c.User)
	p.mu.Unlock()
	answer(w, map[string]any{})
}

// serveExpire gives a user's page a token that expires soon.
func (p *page) serveExpire(w http.ResponseWriter, r *http.Request) {
	c, ok := readCommand(w, r)
	if !ok {
		return
	}
	p.mu.Lock()
	p.short[c.User] = true
	p.breakLinesLocked(c.User) // with the next stream comes the next token
	p.mu.Unlock()
	answer(w, map[string]any{})
}

func (p *page) breakLinesLocked(user int) {
	for _, cancel := range p.lines[user] {
		cancel()
	}
}

func (p *page) servePostgres(w http.ResponseWriter, r *http.Request) {
	if p.stack.restartPostgres == nil {
		http.Error(w, "this Postgres is not the demo's own", http.StatusConflict)
		return
	}
	p.system.Lock()
	defer p.system.Unlock()
	began := time.Now()
	if err := p.stack.restartPostgres(context.WithoutCancel(r.Context())); err != nil {
		log.Printf("restart Postgres: %v", err)
		http.Error(w, "Postgres could not be restarted", http.StatusInternalServerError)
		return
	}
	answer(w, map[string]any{"ms": time.Since(began).Milliseconds()})
}

func (p *page) serveReplica(w http.ResponseWriter, r *http.Request) {
	if p.stack.killReplica == nil {
		http.Error(w, "these gateways are not the demo's own", http.StatusConflict)
		return
	}
	p.system.Lock()
	defer p.system.Unlock()
	number, err := p.stack.killReplica(context.WithoutCancel(r.Context()))
	if err != nil {
		log.Printf("kill a replica: %v", err)
		http.Error(w, "no replica could be killed", http.StatusInternalServerError)
		return
	}
	answer(w, map[string]any{"number": number})
}

// proxy passes requests on to the gateway, event by event. The gateway knows
// nothing of the users' paths.
func (p *page) proxy() http.HandlerFunc {
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(p.stack.address())
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, userPath(r.In))
			r.Out.URL.RawPath = ""
			r.Out.Host = r.In.Host // the gateway compares it with Origin
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

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// routerLag is how old a router's knowledge of who is ready may be. It is
// below the time for which a draining gateway still takes streams.
const routerLag = 300 * time.Millisecond

// router stands for what stands in front of replicas, such as a Service of
// Kubernetes: it asks /readyz, sends a new connection to any replica that was
// ready when it last asked, and leaves open ones alone.
type router struct {
	listener net.Listener

	mu       sync.Mutex
	replicas []*instance   // guarded by mu
	ready    []*instance   // of replicas, at the last round; guarded by mu
	asked    time.Time     // when the last round began; guarded by mu
	round    chan struct{} // closed when a round ends; guarded by mu
}

func newRouter(ctx context.Context, t *testing.T) *router {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &router{listener: l, round: make(chan struct{})}
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			r.ask(ctx)
		}
	})
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { r.forward(ctx, client) })
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return r
}

// set replaces the replicas that the router knows.
func (r *router) set(replicas ...*instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.replicas = slices.Clone(replicas)
}

// ask asks each replica once, and rests for a while.
func (r *router) ask(ctx context.Context) {
	r.mu.Lock()
	replicas := r.replicas
	r.mu.Unlock()
	began := time.Now()
	var ready []*instance
	for _, replica := range replicas {
		resp, err := http.Get(replica.admin + "/readyz")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			ready = append(ready, replica)
		}
	}
	r.mu.Lock()
	r.ready, r.asked = ready, began
	close(r.round)
	r.round = make(chan struct{})
	r.mu.Unlock()
	select {
	case <-time.After(routerLag / 3):
	case <-ctx.Done():
	}
}

// pick returns the public address of a replica that was ready no longer than
// routerLag ago.
func (r *router) pick(ctx context.Context) string {
	for {
		r.mu.Lock()
		ready, asked, round := r.ready, r.asked, r.round
		r.mu.Unlock()
		if len(ready) > 0 && time.Since(asked) < routerLag {
			return strings.TrimPrefix(ready[rand.IntN(len(ready))].public, "http://")
		}
		select {
		case <-round:
		case <-ctx.Done():
			return ""
		}
	}
}

// forward carries one connection.
func (r *router) forward(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", r.pick(ctx))
	if err != nil {
		return // the client sees a connection that breaks, as with a Service
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	defer stop()
	go func() {
		io.Copy(server, client) // the client has gone
		server.Close()
	}()
	io.Copy(client, server) // the gateway has gone
}

// eventSource is a client as a browser's EventSource: it comes back after the
// reconnection time when its stream breaks, and never again after an answer
// other than 200 (WHATWG HTML, section 9.2.3).
type eventSource struct {
	url, token string
	connected  func()            // at each "connected"
	transport  http.RoundTripper // nil: plain HTTP, a connection for each stream

	titles map[string]bool // what it got
	broken int             // streams that ended
	faults []string        // what would have ended it for good, and resets
}

// run reads until it has the row "last".
func (e *eventSource) run(ctx context.Context) {
	e.titles = map[string]bool{}
	transport := e.transport
	if transport == nil {
		transport = &http.Transport{DisableKeepAlives: true}
	}
	lastID, retry := "", 3*time.Second
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url, nil)
		if err != nil {
			panic(err) // the address is our own
		}
		r.Header.Set("Authorization", "Bearer "+e.token)
		r.Header.Set("Last-Event-ID", lastID)
		resp, err := transport.RoundTrip(r)
		if err == nil && resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			e.faults = append(e.faults, fmt.Sprintf("the EventSource is dead: status %d", resp.StatusCode))
			return
		}
		if err == nil {
			e.read(resp.Body, &lastID, &retry)
			resp.Body.Close()
		}
		if e.titles["last"] {
			return
		}
		e.broken++
		select {
		case <-time.After(retry):
		case <-ctx.Done():
		}
	}
	e.faults = append(e.faults, "it did not get the last row")
}

// read reads one stream to its end, or to the row "last".
func (e *eventSource) read(body io.Reader, lastID *string, retry *time.Duration) {
	for lines := bufio.NewScanner(body); !e.titles["last"] && lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			*lastID = value
		case "retry":
			ms, _ := strconv.Atoi(value)
			*retry = time.Duration(ms) * time.Millisecond
		case "event":
			if value == "connected" {
				e.connected()
			}
			if value == "reset" {
				e.faults = append(e.faults, "a reset")
			}
		case "data":
			if title, found := titleOf(value); found {
				e.titles[title] = true
			}
		}
	}
}

// A rolling restart behind a router that follows readiness needs no preStop
// hook and no pause: no row may be lost, and no EventSource may meet a status
// that ends it for good.
func TestRollingRestartBehindRouter(t *testing.T) {
	const clients, users = 60, 20
	url := storetest.CRM(t)
	environment(t, url)
	t.Setenv("GATEWAY_DRAIN", "6s") // streams are taken for a second of it
	db := open(t, url)
	if err := db.Exec(t.Context(), "INSERT INTO employees (id, first_name, last_name, email) SELECT i, 'x', 'x', i FROM generate_series(100, 200) i"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	router := newRouter(ctx, t)
	replicas := []*instance{serveInTest(t), serveInTest(t)}
	for _, replica := range replicas {
		replica.readyz(t, 200)
	}
	router.set(replicas...)

	var reading, connecting sync.WaitGroup
	connecting.Add(clients)
	sources := make([]*eventSource, clients)
	for i := range sources {
		sources[i] = &eventSource{
			url: "http://" + router.listener.Addr().String() + "/api/notifications/stream/", token: mint(t, strconv.Itoa(100+i%users)),
			connected: sync.OnceFunc(connecting.Done),
		}
		reading.Go(func() { sources[i].run(ctx) })
	}
	connecting.Wait()

	const insert = "INSERT INTO notifications (user_id, notification_type, title, message) VALUES ($1, 'x', $2, 'm')"
	writing, stop := context.WithCancel(ctx)
	written := make(chan [users][]string, 1)
	go func() {
		var want [users][]string
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for n := 0; writing.Err() == nil; n++ {
			user, title := rand.IntN(users), fmt.Sprint("row ", n)
			if err := db.Exec(ctx, insert, 100+user, title); err != nil {
				t.Error(err)
				break
			}
			want[user] = append(want[user], title)
			<-pace.C
		}
		written <- want
	}()
	// As a Deployment with maxSurge 1 and maxUnavailable 0.
	for i, old := range replicas {
		fresh := serveInTest(t)
		fresh.readyz(t, 200)
		router.set(append(replicas, fresh)...)
		if status := old.stop(); status != 0 {
			t.Errorf("exit status %d", status)
		}
		replicas[i] = fresh
		router.set(replicas...)
	}
	stop()
	want := <-written
	for user := range users {
		if err := db.Exec(ctx, insert, 100+user, "last"); err != nil {
			t.Fatal(err)
		}
	}
	reading.Wait()
	rows, lost, broken := 0, 0, 0
	for i, source := range sources {
		broken += source.broken
		for _, fault := range source.faults {
			t.Errorf("client %d: %s", i, fault)
		}
		for _, title := range append(want[i%users], "last") {
			rows++
			if !source.titles[title] {
				lost++
			}
		}
	}
	t.Logf("%d rows for %d clients, %d lost; %d streams ended", rows, clients, lost, broken)
	if lost > 0 || broken < clients {
		t.Errorf("%d of %d rows were lost, %d streams ended", lost, rows, broken)
	}
}

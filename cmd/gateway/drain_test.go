package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// fleet is two replicas that are restarted one after the other, and what its
// clients lived through.
type fleet struct {
	drain time.Duration

	mu       sync.Mutex
	replicas [2]*instance // guarded by mu
	open     int          // clients that have a stream; guarded by mu
	fewest   int          // the least that open was since all had one; guarded by mu
	ended    []time.Time  // when a client was told draining; guarded by mu
	retries  []int        // what it was told to wait, in ms; guarded by mu
	faults   []string     // what no client should see; guarded by mu
	again    int          // rows that came more than once; guarded by mu
}

func (f *fleet) at(side int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replicas[side].public
}

func (f *fleet) note(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	f.fewest = min(f.fewest, f.open)
}

// follow is a client: it reads until it has the row "last", and goes to the
// other replica with its last event ID whenever its stream ends. It returns the
// titles that it got.
func (f *fleet) follow(ctx context.Context, token string, side int, connected func()) map[string]bool {
	got := map[string]bool{}
	lastID := ""
	for !got["last"] && ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.at(side)+"/api/notifications/stream/", nil)
		if err != nil {
			panic(err) // the address is our own
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Last-Event-ID", lastID)
		side = 1 - side
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			f.note(func() { f.faults = append(f.faults, fmt.Sprintf("connecting: %v, %v", resp, err)) })
			return got
		}
		f.note(func() { f.open++ })
		lines := bufio.NewScanner(resp.Body)
		var retry int
		for !got["last"] && lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case name == "id":
				lastID = value
			case name == "retry":
				retry, _ = strconv.Atoi(value)
			case name == "event" && value == "connected":
				connected()
			case name == "event" && value == "reset":
				f.note(func() { f.faults = append(f.faults, "a reset") })
			case name == "data" && strings.Contains(value, `"code":`):
				f.note(func() {
					f.open--
					f.ended, f.retries = append(f.ended, time.Now()), append(f.retries, retry)
					if !strings.Contains(value, `"code":"draining"`) {
						f.faults = append(f.faults, value)
					}
				})
			case name == "data":
				_, rest, found := strings.Cut(value, `"title":"`)
				title, _, _ := strings.Cut(rest, `"`)
				if found && got[title] {
					f.note(func() { f.again++ })
				}
				got[title] = found
			}
			if name == "event" {
				retry = 0
			}
		}
		resp.Body.Close()
	}
	return got
}

// restart drains a replica and puts a new one in its place.
func (f *fleet) restart(t *testing.T, side int) {
	old := f.replicas[side]
	f.mu.Lock()
	before := len(f.ended)
	f.mu.Unlock()
	stopped := make(chan int, 1)
	go func() { stopped <- old.stop() }()
	old.readyz(t, 503)
	f.mu.Lock()
	if n := len(f.ended) - before; n > 0 {
		t.Errorf("%d streams were ended before readiness went", n)
	}
	f.mu.Unlock()
	late := old.stream(t, mint(t, "7"), "") // sent here by who has not looked yet
	until(t, late, "Connected")
	until(t, late, `"code":"draining"`)
	if status := <-stopped; status != 0 {
		t.Errorf("exit status %d", status)
	}
	fresh := serveInTest(t)
	fresh.readyz(t, 200)
	f.mu.Lock()
	f.replicas[side] = fresh
	f.mu.Unlock()
}

// A rolling restart under load is an ordinary day: no row may be lost, no
// client be refused or told to reload, and the clients may not come back all
// at once, which would be a storm at the replica that is left.
func TestRollingRestart(t *testing.T) {
	const clients, users = 100, 20
	url := storetest.CRM(t)
	environment(t, url)
	f := &fleet{drain: 2 * time.Second}
	t.Setenv("GATEWAY_DRAIN", f.drain.String())
	db := open(t, url)
	if err := db.Exec(t.Context(), "INSERT INTO employees (id, first_name, last_name, email) SELECT i, 'x', 'x', i FROM generate_series(100, 200) i"); err != nil {
		t.Fatal(err)
	}
	for side := range f.replicas {
		f.replicas[side] = serveInTest(t)
		f.replicas[side].readyz(t, 200)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var connecting, reading sync.WaitGroup
	connecting.Add(clients)
	got := make([]map[string]bool, clients)
	for i := range clients {
		token := mint(t, strconv.Itoa(100+i%users))
		reading.Go(func() { got[i] = f.follow(ctx, token, i/users%2, sync.OnceFunc(connecting.Done)) })
	}
	connecting.Wait()
	f.note(func() { f.fewest = f.open })

	writing, stop := context.WithCancel(ctx)
	written := make(chan [users][]string)
	go func() {
		var want [users][]string
		for n := 0; writing.Err() == nil; n++ {
			user := rand.IntN(users)
			title := fmt.Sprint("row ", n)
			if err := db.Exec(ctx, "INSERT INTO notifications (user_id, notification_type, title, message) VALUES ($1, 'x', $2, 'm')", 100+user, title); err != nil {
				t.Error(err)
				break
			}
			want[user] = append(want[user], title)
		}
		written <- want
	}()
	f.restart(t, 0)
	f.restart(t, 1)
	stop()
	want := <-written
	for user := range users {
		if err := db.Exec(ctx, "INSERT INTO notifications (user_id, notification_type, title, message) VALUES ($1, 'x', 'last', 'm')", 100+user); err != nil {
			t.Fatal(err)
		}
	}
	// Each ends when it has its last row.
	reading.Wait()

	rows, lost := 0, 0
	for i := range clients {
		for _, title := range append(want[i%users], "last") {
			rows++
			if !got[i][title] {
				lost++
			}
		}
	}
	most := mostWithin(f.ended, f.drain/10)
	t.Logf("%d rows for %d clients, %d lost, %d twice; %d streams were ended, at most %d in a tenth of the drain; at most %d clients were without one",
		rows, clients, lost, f.again, len(f.ended), most, clients-f.fewest)
	if lost > 0 || len(f.faults) > 0 {
		t.Errorf("%d of %d rows were lost; %q", lost, rows, f.faults)
	}
	if n := clients*3/5 + clients; len(f.ended) != n { // those of the first replica, and then all
		t.Errorf("%d streams were ended, want %d", len(f.ended), n)
	}
	if most > clients/3 || clients-f.fewest > clients/3 {
		t.Errorf("%d of %d clients were ended within a tenth of the drain, %d at once had no stream", most, clients, clients-f.fewest)
	}
	slices.Sort(f.retries)
	if f.retries[0] < 1000 || len(slices.Compact(f.retries)) < clients/4 {
		t.Errorf("the reconnection times are %v", f.retries)
	}
}

// mostWithin is the largest number of moments within a window.
func mostWithin(moments []time.Time, window time.Duration) (most int) {
	slices.SortFunc(moments, time.Time.Compare)
	for i, first := range moments {
		n := 0
		for _, m := range moments[i:] {
			if m.Sub(first) < window {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

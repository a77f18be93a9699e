package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// ask opens a stream by hand and returns when it has begun.
func (r *rig) ask(user string) (net.Conn, *bufio.Reader) {
	r.Helper()
	c := r.dial()
	fmt.Fprintf(c, "GET /api/notifications/stream/?token=%s HTTP/1.1\r\nHost: x\r\n\r\n", user)
	lines := bufio.NewReader(c)
	for line := ""; !strings.Contains(line, "Connected"); {
		var err error
		if line, err = lines.ReadString('\n'); err != nil {
			r.Fatal(err)
		}
	}
	return c, lines
}

// A descriptor's number goes to the next connection as soon as it is closed: a
// write or a close that comes late would hit somebody else's stream.
func TestTakenOverStreamsKeepTheirDescriptors(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.MaxStreamsPerUser = 3 })
	ctx, stop := context.WithCancel(t.Context())
	var delivering, reading sync.WaitGroup
	delivering.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			r.deliver(r.source.add(fmt.Sprint(i%4), fmt.Sprint((i+1)%4)))
			r.hub.tick(time.Now())
		}
	})
	for i := range 16 {
		reading.Go(func() {
			user := fmt.Sprint(i % 4)
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range 60 {
				c, lines := r.ask(user)
				for range random.IntN(20) {
					line, err := lines.ReadString('\n')
					if err != nil { // replaced
						break
					}
					var row struct{ ID int }
					if _, data, found := strings.Cut(line, "data: {\"id\""); found {
						if err := json.Unmarshal([]byte(`{"id"`+data), &row); err != nil {
							t.Errorf("broken event %q: %v", line, err)
							return
						}
						r.source.mu.Lock()
						owner := r.source.rows[row.ID-1].UserKey
						r.source.mu.Unlock()
						if owner != user {
							t.Errorf("user %s got a row of user %s", user, owner)
						}
					}
				}
				if random.IntN(2) == 0 {
					c.(*net.TCPConn).SetLinger(0) // a reset instead of an end
				}
				c.Close()
			}
		})
	}
	reading.Wait()
	stop()
	delivering.Wait()
	eventually(r, "no stream is left", func() bool { return r.Streams() == 0 })
	eventually(r, "no connection is left", func() bool {
		r.poller.mu.Lock()
		defer r.poller.mu.Unlock()
		for _, p := range r.poller.transports {
			if p != nil {
				return false
			}
		}
		return len(r.poller.awaited) == 0
	})
}

// That is what parking is for.
func TestTakenOverStreamsKeepNoGoroutine(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.MaxStreamsPerUser = 1000 })
	r.ask("5")
	before := runtime.NumGoroutine()
	for range 200 {
		r.ask("5")
	}
	eventually(r, "no goroutine is left", func() bool { return runtime.NumGoroutine() < before+20 })
	if r.Streams() != 201 {
		t.Errorf("%d streams", r.Streams())
	}
}

// A client that takes nothing, and one that does not close after the end, must
// not hold their descriptors for ever.
func TestTakenOverStreamsHaveDeadlines(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.StreamBuffer = 64 << 20 })
	stuck, _ := r.ask("5")
	large := []byte(`{"id":"` + strings.Repeat("x", 1_000_000) + `"}`)
	waits := func() bool { return len(r.poller.deadlines()) > 0 }
	for n := 0; !waits(); n++ {
		b := r.source.add("5")
		r.source.rows[len(r.source.rows)-1].Data = large
		r.deliver(b)
	}
	r.poller.closeOverdue(time.Now().Add(writeDeadline - time.Minute))
	if r.Streams() != 1 {
		t.Fatal("it was closed too early")
	}
	r.poller.closeOverdue(time.Now().Add(writeDeadline))
	if r.Streams() != 0 || testutil.ToFloat64(r.metrics.slow) != 1 {
		t.Errorf("%d streams, %v slow", r.Streams(), testutil.ToFloat64(r.metrics.slow))
	}
	stuck.Close()

	_, lines := r.ask("6")
	r.hub.end(r.streamOf("6"), endRevoked)
	for {
		if _, err := lines.ReadString('\n'); err != nil { // the end, which the client does not answer
			break
		}
	}
	if !waits() {
		t.Fatal("nothing has a deadline")
	}
	r.poller.closeOverdue(time.Now().Add(lingerDeadline))
	if waits() {
		t.Error("an ended connection is still open")
	}
}

// What waits must come whole and in order when the client reads again.
func TestTakenOverBacklogComesInOrder(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.StreamBuffer = 64 << 20 })
	_, lines := r.ask("5")
	filler := strings.Repeat("x", 100_000)
	sent := 0
	for ; len(r.poller.deadlines()) == 0 || sent%50 != 0; sent++ {
		b := r.source.add("5")
		r.source.rows[len(r.source.rows)-1].Data = fmt.Appendf(nil, `{"n":%d,"x":"%s"}`, sent, filler)
		r.deliver(b)
	}
	r.hub.end(r.streamOf("5"), endDraining)
	flushed := make(chan struct{})
	go func() { defer close(flushed); r.poller.flush(t.Context()) }()
	for want := 0; want < sent; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ended before row %d: %v", want, err)
		}
		if data, found := strings.CutPrefix(line, "data: "); found && strings.HasPrefix(data, `{"n"`) {
			if data != fmt.Sprintf(`{"n":%d,"x":"%s"}`+"\n", want, filler) {
				t.Fatalf("row %d is %.40q", want, data)
			}
			want++
		}
	}
	<-flushed
	rest, _ := lines.ReadString(0)
	if !strings.Contains(rest, "draining") {
		t.Errorf("the last event is %q", rest)
	}
}

// Silent connections must not keep others from being accepted, nor their
// places for ever.
func TestSilentConnectionsGiveTheirPlaceUp(t *testing.T) {
	r := setup(t, nil)
	for range maxHandshakes + 50 {
		r.dial()
	}
	r.ask("5")
	eventually(r, "all places are free", func() bool { return len(r.handshakes.places) == 0 })
	if resp := r.raw("GET / HTTP/1.1", "Host: x"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// A process that runs out of descriptors must refuse, not break what is open.
func TestTakenOverDescriptorsAreClosed(t *testing.T) {
	r := setup(t, nil)
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	first, _ := r.ask("5")
	first.Close()
	eventually(r, "no stream is left", func() bool { return r.Streams() == 0 })
	before := open()
	for range 50 {
		c, _ := r.ask("5")
		c.Close()
	}
	eventually(r, "no descriptor is left", func() bool { return r.Streams() == 0 && open() <= before })
}

// A stream whose replay has died would get pings for ever, and nothing else.
func TestTakenOverStreamEndsWithItsReplay(t *testing.T) {
	r := setup(t, nil)
	start := r.open("5", "").expect("connected", "").id
	r.source.mu.Lock()
	r.source.panics = true
	r.source.mu.Unlock()
	c := r.open("6", "&last_event_id="+start)
	c.expect("connected", "")
	c.expect("end", "")
	eventually(r, "the stream has ended", func() bool { return r.Streams() == 1 })
}

// A fan-out to many streams must cost no more memory than one to a single one:
// each notification is encoded once, and shared.
func TestFanOutAllocatesNothingForAStream(t *testing.T) {
	allocations := func(streams int) float64 {
		r := setup(t, func(c *Config, _ *fakeVerifier) { c.MaxStreamsPerUser = 1000 })
		for range streams {
			r.ask("5")
		}
		batch := r.source.add("5")
		return testing.AllocsPerRun(50, func() {
			if err := r.Deliver(t.Context(), batch); err != nil {
				t.Error(err)
			}
		})
	}
	one, many := allocations(1), allocations(500)
	if many > one+1 { // the list of deliveries has grown once
		t.Errorf("%v allocations for 500 streams, %v for one", many, one)
	}
}

// Nor may it leave garbage for each row: collecting it cost a busy gateway a
// tenth of its time.
func TestFanOutAllocatesNothingForARow(t *testing.T) {
	allocations := func(rows int) float64 {
		r := setup(t, nil)
		users := make([]string, rows)
		for i := range users {
			users[i] = strconv.Itoa(i)
			r.ask(users[i])
		}
		batch := r.source.add(users...)
		var loaded batchRows
		if err := loaded.load(t.Context(), r.source, batch.Entries); err != nil {
			t.Fatal(err)
		}
		return testing.AllocsPerRun(50, func() {
			if missing, done := r.hub.commit(t.Context(), batch, &loaded); !done {
				t.Errorf("%d rows are missing", len(missing))
			}
		})
	}
	one, many := allocations(1), allocations(200)
	if many > one+20 { // the map of the last rows
		t.Errorf("%v allocations for 200 rows, %v for one", many, one)
	}
}

// A hundred thousand streams wait for nothing most of the time.
func TestIdleTransportIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(epollTransport{}); size > 48 {
		t.Errorf("%d bytes for each stream, want at most 48", size)
	}
}

// After the last event nothing may follow, and what waits must still come.
func TestTransportsTakeNothingAfterTheEnd(t *testing.T) {
	large := encode("", eventPing, 0, []byte(strings.Repeat("x", 100)))
	for name, transport := range map[string]transport{
		"http": newHTTPTransport(10, func(*event, int, error) {}), "epoll": (&poller{limit: 10}).transport(true),
	} {
		if !transport.Send(large) || transport.Send(large) {
			t.Errorf("%s: it did not take one event and refuse the second", name)
		}
		transport.End(large)
		transport.End(large)
		if !transport.Send(large) {
			t.Errorf("%s: the hub would end it for being slow after its end", name)
		}
		var waits *outbox
		switch transport := transport.(type) {
		case *httpTransport:
			waits = &transport.outbox
		case *epollTransport:
			waits = transport.outbox
		}
		if len(waits.items) != 2 {
			t.Errorf("%s: %d events wait, want the one and the last", name, len(waits.items))
		}
	}
}

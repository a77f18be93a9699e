package losscheck

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/workload"
)

const (
	awayMax     = time.Second            // between two streams: a browser would wait longer; a check has no time to waste
	backoffMax  = 500 * time.Millisecond // where no stream could be had
	reloadPause = 100 * time.Millisecond // between two tries to reload the list
)

// client is one tab of a user, with what a page does: it resumes with its last
// event ID wherever it connects, and reloads its list after a reset or refresh.
type client struct {
	name      string
	user      int64
	token     string
	addresses []string      // stream URLs
	hop       time.Duration // mean time that it stays at one; zero: until the stream breaks
	changes   bool          // it asks for changes, and keeps its list of unread rows by them
	http      *http.Client
	number    func(title string) (int64, bool)                              // the row of this run that has the title
	reload    func(ctx context.Context, user int64) ([]workload.Row, error) // the user's list
	changed   chan<- struct{}                                               // capacity 1: something came since it was last read

	lastEventID string        // owned by run
	retry       time.Duration // owned by run

	mu       sync.Mutex
	why      error              // why the last stream ended, or was none; guarded by mu
	tally    clientCounts       // guarded by mu
	received map[int64]receipt  // by number; guarded by mu
	waiting  map[int64]struct{} // what is expected and has not come; nil until expect; guarded by mu
	list     unreadList         // what the page shows as unread; guarded by mu
}

// clientCounts is what a client counts.
type clientCounts struct {
	Ready      bool // has a position
	Connects   int  // streams that began
	Resets     int
	Duplicates int
	Foreign    int // notifications of other users
	Updated    int
	Removed    int
	Refreshes  int
	Received   int // of this run's rows, each once
}

// receipt is how a row first came.
type receipt struct {
	id       int64
	at       time.Time
	reloaded bool // with the list, after a reset
}

// errNoID is said of a stream that is open and has brought no id.
var errNoID = errors.New("its stream has brought no id yet")

// refusedError is an answer that trying again does not change.
type refusedError struct{ error }

// run stays connected until ctx ends. Its error is a *refusedError.
func (c *client) run(ctx context.Context) error {
	failures := 0
	for at := rand.IntN(len(c.addresses)); ctx.Err() == nil; {
		began, err := c.stream(ctx, c.addresses[at])
		var refused *refusedError
		if errors.As(err, &refused) {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		c.because(err)
		wait := min(50*time.Millisecond<<min(failures, 6), backoffMax)
		failures++
		if began {
			failures, wait = 0, awayMax
		}
		if n := len(c.addresses); n > 1 { // to another one
			at = (at + 1 + rand.IntN(n-1)) % n
		}
		if c.retry > 0 {
			wait = min(wait, c.retry)
		}
		select {
		case <-time.After(rand.N(wait)):
		case <-ctx.Done():
		}
	}
	return nil
}

// because notes why a stream ended, without the URL, which may hold a token.
func (c *client) because(err error) {
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.why = err
}

// stream reads one stream until it breaks or it is time to hop. began says
// whether it had a first event.
func (c *client) stream(ctx context.Context, address string) (began bool, err error) {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.hop > 0 {
		defer time.AfterFunc(time.Duration(rand.ExpFloat64()*float64(c.hop)), cancel).Stop()
	}
	r, err := http.NewRequestWithContext(reading, http.MethodGet, address, nil)
	if err != nil {
		return false, &refusedError{err}
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer "+c.token)
	if c.lastEventID != "" {
		r.Header.Set("Last-Event-ID", c.lastEventID)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	switch kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); {
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return false, errors.New(resp.Status)
	case resp.StatusCode != http.StatusOK:
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return false, &refusedError{fmt.Errorf("%s answers %s: %s", address, resp.Status, body)}
	case kind != "text/event-stream":
		return false, &refusedError{fmt.Errorf("%s is no event stream but %q", address, kind)}
	}
	in := newEventStream(resp.Body)
	in.lastEventID, in.retry = c.lastEventID, c.retry
	for {
		e, err := in.next()
		c.lastEventID, c.retry = in.lastEventID, in.retry
		if errors.Is(err, errTooLong) { // it would come again at each resume, and what follows never
			return began, &refusedError{fmt.Errorf("%s: %w", address, err)}
		}
		if err != nil {
			return began, err
		}
		if !began {
			began = true
			c.count(func(t *clientCounts) { t.Connects++ })
		}
		if err := c.handle(ctx, e); err != nil {
			return began, err
		}
	}
}

func (c *client) count(f func(*clientCounts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.tally)
	c.signal()
}

// signal needs no lock.
func (c *client) signal() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// handle does what a page does with an event.
func (c *client) handle(ctx context.Context, e event) error {
	switch e.name {
	case "connected":
		var hello struct{ User json.RawMessage }
		if err := json.Unmarshal([]byte(e.data), &hello); err != nil {
			return fmt.Errorf("connected: %w", err)
		}
		if got := strings.Trim(string(hello.User), `"`); got != fmt.Sprint(c.user) {
			return &refusedError{fmt.Errorf("the token's stream is that of user %s, not %d", got, c.user)}
		}
		if e.id != "" {
			c.count(func(t *clientCounts) { t.Ready = true })
		}
	case "reset":
		c.count(func(t *clientCounts) { t.Resets++ })
		return c.reloadList(ctx)
	case "refresh":
		c.count(func(t *clientCounts) { t.Refreshes++ })
		return c.reloadList(ctx)
	case "notification", "updated":
		var n notification
		if err := json.Unmarshal([]byte(e.data), &n); err != nil {
			return &refusedError{fmt.Errorf("a notification that cannot be read: %w", err)}
		}
		if number, ours := c.number(n.Title); ours {
			c.record(number, n, e.name == "updated")
		}
	case "removed":
		var n struct{ ID int64 }
		if err := json.Unmarshal([]byte(e.data), &n); err != nil {
			return &refusedError{fmt.Errorf("a removal that cannot be read: %w", err)}
		}
		c.count(func(t *clientCounts) { t.Removed++; c.list.set(n.ID, false) })
	}
	return nil
}

// notification is what the checker reads of the data of an event.
type notification struct {
	ID, User int64
	Title    string
	IsRead   bool `json:"is_read"`
}

// record notes a row that the stream brought, as a new one or as updated.
func (c *client) record(number int64, n notification, updated bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.User != c.user {
		c.tally.Foreign++
		return
	}
	before, again := c.received[number]
	switch {
	case !again:
		c.addLocked(number, receipt{id: n.ID, at: now})
	case updated:
	case !before.reloaded:
		c.tally.Duplicates++
	}
	if updated {
		c.tally.Updated++
	}
	c.list.set(n.ID, !n.IsRead)
	c.signal()
}

// addLocked notes a row that has come for the first time. The caller holds mu.
func (c *client) addLocked(number int64, r receipt) {
	c.received[number] = r
	c.tally.Received++
	delete(c.waiting, number)
	c.signal()
}

// reloadList reads the user's list, however long that takes: what came before
// the reset may be found nowhere else.
func (c *client) reloadList(ctx context.Context) error {
	for {
		rows, err := c.reload(ctx, c.user)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.list.replace(unreadOf(rows, c.user))
			for _, r := range rows {
				if _, known := c.received[r.Number]; !known {
					c.addLocked(r.Number, receipt{id: r.ID, reloaded: true})
				}
			}
			c.signal()
			return nil
		}
		select {
		case <-time.After(reloadPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// expect names the rows of the table in the end: those of the client's user must
// come, and with changes the unread ones must be what the page shows.
func (c *client) expect(rows []workload.Row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = map[int64]struct{}{}
	for _, r := range rows {
		if _, known := c.received[r.Number]; r.User == c.user && !known {
			c.waiting[r.Number] = struct{}{}
		}
	}
	if c.changes {
		c.list.expect(unreadOf(rows, c.user))
	}
}

// outstanding is how many rows have not come, or are shown wrongly.
func (c *client) outstanding() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) + c.list.wrong
}

func (c *client) lastError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cmp.Or(c.why, errNoID)
}

func (c *client) counted() clientCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tally
}

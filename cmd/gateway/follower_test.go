package main

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// follower is a stream that is read all the time.
type follower struct {
	mu     sync.Mutex
	titles map[string]bool // guarded by mu
	pings  int             // guarded by mu
	resets []string        // guarded by mu
	lastID string          // guarded by mu
	ended  string          // why; guarded by mu
	news   chan struct{}   // capacity 1: something came
}

func (o *outage) follow(lastID string) *follower {
	o.Helper()
	lines := o.gateway.stream(o, o.token, lastID)
	w := &follower{titles: map[string]bool{}, news: make(chan struct{}, 1)}
	go w.read(lines)
	return w
}

func (w *follower) read(lines *bufio.Scanner) {
	event := ""
	for more := true; more; {
		more = lines.Scan()
		name, value, _ := strings.Cut(lines.Text(), ": ")
		w.mu.Lock()
		switch {
		case !more:
			w.ended += " end"
		case name == "id":
			w.lastID = value
		case name == "event":
			event = value
			if value == "ping" {
				w.pings++
			}
		case name == "data" && event == "reset":
			w.resets = append(w.resets, value)
		case name == "data" && event == "error":
			w.ended += value
		case name == "data":
			if title, found := titleOf(value); found {
				w.titles[title] = true
			}
		}
		w.mu.Unlock()
		select {
		case w.news <- struct{}{}:
		default: // there is news already
		}
	}
}

// until waits for what the stream brings.
func (w *follower) until(t *testing.T, what string, enough func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for {
		w.mu.Lock()
		done, ended := enough(), w.ended
		w.mu.Unlock()
		switch {
		case done:
			return
		case ended != "":
			t.Fatalf("the stream ended before %s:%s", what, ended)
		}
		select {
		case <-w.news:
		case <-deadline.C:
			t.Fatalf("%s did not come", what)
		}
	}
}

func (w *follower) untilTitle(t *testing.T, title string) {
	t.Helper()
	w.until(t, title, func() bool { return w.titles[title] })
}

// untilPings waits for n more pings.
func (w *follower) untilPings(t *testing.T, n int) {
	t.Helper()
	w.mu.Lock()
	n += w.pings
	w.mu.Unlock()
	w.until(t, "a ping", func() bool { return w.pings >= n })
}

// titleOf is the title in a line of data.
func titleOf(line string) (string, bool) {
	_, rest, found := strings.Cut(line, `"title":"`)
	title, _, _ := strings.Cut(rest, `"`)
	return title, found
}

// scrape returns all metrics as Prometheus reads them.
func (i *instance) scrape(t testing.TB) string {
	t.Helper()
	resp, err := http.Get(i.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// metric is the value of a metric; its labels, if any, are a part of its name.
func (i *instance) metric(t testing.TB, name string) float64 {
	t.Helper()
	_, rest, found := strings.Cut(i.scrape(t), "\nnotification_gateway_"+name+" ")
	value, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseFloat(value, 64)
	if !found || err != nil {
		t.Fatalf("no metric %s: %v", name, err)
	}
	return n
}

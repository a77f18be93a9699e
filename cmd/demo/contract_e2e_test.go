//go:build e2e

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// block is the code of a language on the page of the wire contract. There is one.
func block(t *testing.T, language string) string {
	t.Helper()
	page, err := os.ReadFile("../../gateway/README.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(page), "\n```"+language+"\n")
	if len(parts) != 2 {
		t.Fatalf("gateway/README.md has %d blocks of %s, want one", len(parts)-1, language)
	}
	code, _, _ := strings.Cut(parts[1], "\n```\n")
	return code + "\n"
}

// faults stands between a client and the gateway, and answers the first requests
// for a path with the faults that are planned for it: 0 breaks the connection.
type faults struct {
	next http.Handler

	mu      sync.Mutex
	planned map[string][]int // by the path's end; guarded by mu
}

func (f *faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	status := -1
	for path, plan := range f.planned {
		if strings.HasSuffix(r.URL.Path, path) && len(plan) > 0 {
			status, f.planned[path] = plan[0], plan[1:]
		}
	}
	f.mu.Unlock()
	switch status {
	case -1:
		f.next.ServeHTTP(w, r)
	case 0:
		panic(http.ErrAbortHandler)
	default:
		http.Error(w, "a fault that is planned", status)
	}
}

// left is how many faults have not been met yet.
func (f *faults) left() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, plan := range f.planned {
		n += len(plan)
	}
	return n
}

// faulty serves a handler behind the faults.
func faulty(t *testing.T, next http.Handler, planned map[string][]int) (*httptest.Server, *faults) {
	t.Helper()
	f := &faults{next: next, planned: planned}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server, f
}

// The browser's client of the page died for good with the first fetch that failed,
// and with a proxy's 502. It must go on, resume, and reload the list until that works.
func contractBrowser(t *testing.T, p *page) {
	token, err := p.token(people[1])
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", p.handler())
	mux.HandleFunc("/client.html", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `<!doctype html><title>client</title><script>
window.got = []; window.reloads = 0; window.tokens = 0;
async function token() { if (++tokens == 1) throw new Error("no token yet"); return %q; }
function show(n) { got.push(n.title); }
async function reloadList() { if (++reloads == 1) throw new Error("the CRM is away"); }
</script><script>%s</script><script>connect();</script>`, token, block(t, "js"))
	})
	server, f := faulty(t, mux, map[string][]int{"/session/": {0, 502}, "/stream/": {502}})
	ctx := browser(t)
	do(t, ctx, chromedp.Navigate(server.URL+"/client.html"), until(`last != ""`))
	if n := f.left(); n != 0 {
		t.Errorf("%d faults were not met", n)
	}
	if _, err := p.stack.insert(ctx, people[1].ID, "lead", 2); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, until(`got.some((title) => title.includes("Edsger"))`))
	server.CloseClientConnections() // the browser connects again by itself
	if _, err := p.stack.insert(ctx, people[1].ID, "lead", 3); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, until(`got.some((title) => title.includes("Barbara"))`), chromedp.Evaluate[chromedp.Void](`last = "nonsense"; connect(); undefined`), until(`reloads == 2`))
}

// contractProcess runs a client of the page over a 502 and a connection that
// breaks: the row that was written meanwhile must come.
func contractProcess(t *testing.T, p *page, program, language, driver string) {
	token, err := p.token(people[0])
	if err != nil {
		t.Fatal(err)
	}
	server, f := faulty(t, p.handler(), map[string][]int{"/stream/": {0, 502}})
	name := filepath.Join(t.TempDir(), "client."+language)
	if err := os.WriteFile(name, []byte(block(t, language)+driver), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, name, server.URL, token)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s is missing: run .ci/install (%v)", program, err)
	}
	defer cmd.Wait()
	defer cancel()
	titles := make(chan string, 1000) // more than this test writes
	go func() {
		defer close(titles)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var n struct{ Title string }
			if err := json.Unmarshal(lines.Bytes(), &n); err != nil {
				t.Errorf("%s: %v", lines.Text(), err)
			}
			titles <- n.Title
		}
	}()
	insert := func() {
		if _, err := p.stack.insert(ctx, people[0].ID, "reminder", 1); err != nil {
			t.Fatal(err)
		}
	}
	again := time.NewTicker(500 * time.Millisecond) // what is written before the stream is open does not come
	defer again.Stop()
	for shown := false; !shown; {
		select {
		case _, shown = <-titles:
			if !shown {
				t.Fatal("the client ended")
			}
		case <-again.C:
			insert()
		}
	}
	if n := f.left(); n != 0 {
		t.Errorf("%d faults were not met", n)
	}
	server.CloseClientConnections()
	if _, err := p.stack.insert(ctx, people[0].ID, "lead", 1); err != nil {
		t.Fatal(err)
	}
	for title := range titles {
		if strings.Contains(title, "Lead") {
			return
		}
	}
	t.Fatal("the client ended before the row that was written while it was cut off")
}

//go:build e2e

package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var update = flag.Bool("update", false, "write the README's screenshot")

const waitFor = 60 * time.Second // for one thing to happen, on a slow machine

//go:embed testdata/seed/browser.js
var browserClient string

// TestE2E runs real clients against the real stack.
func TestE2E(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	origin := "http://" + server.Listener.Addr().String()
	s, err := startStack(t.Context(), []string{
		// A client that shows nothing before so many bytes have come would see them
		// too late: a minute is less than a dozen pings.
		"GATEWAY_PING_INTERVAL=5s", "GATEWAY_ALLOWED_ORIGINS=" + origin,
	}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	p := newPage(s)
	mux := http.NewServeMux()
	mux.Handle("/", p.handler())
	mux.HandleFunc("/seed.html", func(w http.ResponseWriter, _ *http.Request) { serveSeed(t, p, w) })
	server.Config.Handler = mux
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)

	// The document's clients talk to the gateway's own port: a proxy of ours
	// between them would frame the stream anew and hide a fault.
	gateway := func() string { return s.address().String() } // another one after a replica was killed
	t.Run("SeedNode", func(t *testing.T) {
		t.Parallel()
		seedProcess(t, p, gateway(), "node", "testdata/node_driver.js", "testdata/seed/node.js")
	})
	t.Run("SeedPython", func(t *testing.T) {
		t.Parallel()
		seedProcess(t, p, gateway(), "/usr/bin/python3", "testdata/python_driver.py", "testdata/seed/client.py")
	})
	t.Run("SeedBrowser", func(t *testing.T) {
		t.Parallel()
		seedBrowser(t, p, server.URL)
	})
	t.Run("ContractBrowser", func(t *testing.T) {
		t.Parallel()
		contractBrowser(t, p)
	})
	t.Run("ContractNode", func(t *testing.T) {
		t.Parallel()
		contractProcess(t, p, "node", "mjs", `follow(process.argv[2], { token: () => process.argv[3],
			show: (n) => console.log(JSON.stringify(n)), reloadList: async () => {} });`)
	})
	t.Run("ContractPython", func(t *testing.T) {
		t.Parallel()
		contractProcess(t, p, "/usr/bin/python3", "python", `
import sys
follow(sys.argv[1], lambda: sys.argv[2], lambda n: print(json.dumps(n), flush=True), lambda: None)
`)
	})
	t.Run("Page", func(t *testing.T) { demoPage(t, server.URL) })
	t.Run("Tabs", func(t *testing.T) { demoTabs(t, p, server.URL) })
	t.Run("Faults", func(t *testing.T) { demoFaults(t, server.URL) })
	t.Run("PageNarrow", func(t *testing.T) { demoPageNarrow(t, server.URL) })
}

// A change of the wire format that our own code follows would still break the
// programs that people wrote after the document: these run word for word.
func seedProcess(t *testing.T, p *page, base, program, driver, client string) {
	token, err := p.token(people[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, driver, client, base, token)
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
	lines := bufio.NewScanner(out)
	next := func(what string, is func(map[string]any) bool) {
		t.Helper()
		for lines.Scan() {
			var data map[string]any
			if err := json.Unmarshal(lines.Bytes(), &data); err != nil {
				t.Fatalf("%s: %v: %s", what, err, lines.Text())
			}
			if is(data) {
				return
			}
		}
		t.Fatalf("the client ended before %s", what)
	}
	ping := func(d map[string]any) bool { return d["timestamp"] != nil }
	next("connected", func(d map[string]any) bool { return d["message"] == "Connected to notification stream" })
	for i := range 2 { // one before and one after a ping
		if _, err := p.stack.insert(ctx, people[0].ID, "task", i); err != nil {
			t.Fatal(err)
		}
		next("the notification", func(d map[string]any) bool {
			return d["notification_type"] == "task_assignment" && d["task_data"] != nil
		})
		next("a ping", ping)
	}
}

// serveSeed is a page that holds the document's browser client, and the two
// functions that it calls. The client's URL is relative; base makes it one of the
// gateway's own port.
func serveSeed(t *testing.T, p *page, w http.ResponseWriter) {
	token, err := p.token(people[1])
	if err != nil {
		t.Error(err)
	}
	fmt.Fprintf(w, `<!doctype html><title>seed</title><base href="http://%s/"><script>
window.got = []; window.counted = 0; window.said = [];
localStorage.setItem("auth_token", %q);
function showNotificationToast(n) { got.push(n); }
function updateNotificationCount() { counted++; }
console.log = (...args) => said.push(args.join(" "));
</script><script>%s</script>`, p.stack.address().Host, token, browserClient)
}

func seedBrowser(t *testing.T, p *page, base string) {
	ctx := browser(t)
	do(t, ctx, chromedp.Navigate(base+"/seed.html"),
		until(`said.some((s) => s.startsWith("Connected: Connected to"))`))
	for i := range 2 {
		if _, err := p.stack.insert(ctx, people[1].ID, "lead", i); err != nil {
			t.Fatal(err)
		}
		do(t, ctx, until(fmt.Sprintf(`got.length >= %d && counted == got.length && got.at(-1).lead_data != null`, i+1)),
			chromedp.Evaluate[chromedp.Void](`said.length = 0`),
			until(`said.includes("Ping received")`))
	}
}

// items counts a user's notifications on the page, and live says whether they
// come.
func items(user int) string {
	return fmt.Sprintf(`document.querySelectorAll("#user-%d .item").length`, user)
}

func live(user int) string {
	return fmt.Sprintf(`document.querySelector("#user-%d .state.live") != null`, user)
}

func click(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS(selector))
}

// happened waits for words in a user's timeline.
func happened(user int, words string) chromedp.Action[chromedp.Void] {
	return until(fmt.Sprintf(`document.querySelector("#user-%d .timeline").textContent.includes(%q)`, user, words))
}

// demoPage is the demo as its viewer sees it: what was inserted for one user
// shows there alone, and what was missed while the line was cut comes back.
func demoPage(t *testing.T, base string) {
	ctx := browser(t)
	do(t, ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(base+"/"),
		until(live(5)+" && "+live(7)),
		click(`#user-5 button[data-kind=task]`), until(items(5)+" == 1"),
		click(`#user-5 button[data-kind=lead]`), until(items(5)+" == 2"),
		click(`#user-5 button[data-kind=reminder]`), until(items(5)+" == 3"),
		click(`#user-7 button[data-kind=lead]`), until(items(7)+" == 1"))
	if alices := value(t, ctx, chromedp.Evaluate[int](items(5))); alices != 3 {
		t.Errorf("Alice sees %d notifications, want her own 3", alices)
	}
	do(t, ctx, click(`#user-7 .cut`),
		until(`document.querySelector("#user-7 .state.cut") != null`),
		until(`/cut for \d s more: press/.test(document.querySelector("#user-7 .state .text").textContent)`),
		click(`#user-7 button[data-count="20"]`),
		until(items(7)+" == 21"),
		until(`document.querySelector("#user-7 .state .text").textContent.includes("20 caught up")`))
	do(t, ctx, click(`#user-5 button[data-kind=task]`), until(items(5)+" == 4"))
	// The page shows how it should be done: no token in any URL.
	if urls := value(t, ctx, chromedp.Evaluate[string](`performance.getEntries().map((e) => e.name).join(" ") + document.cookie`)); strings.Contains(urls, "token=") || !strings.Contains(urls, "/stream/") {
		t.Errorf("the page asked for %s", urls)
	}
	do(t, ctx, until(`document.getAnimations().length == 0`))
	picture(t, ctx, "WIDE_PICTURE")
	if *update {
		if err := os.WriteFile("../../deploy/demo.png", value(t, ctx, chromedp.CaptureScreenshot()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// demoTabs is the page in several tabs: one stream for each user, what is unread
// after a reload, and what was read nowhere any more.
func demoTabs(t *testing.T, p *page, base string) {
	ctx := browser(t)
	do(t, ctx, chromedp.Navigate(base+"/"), until(live(5)+" && "+live(7)+" && "+items(5)+" == 4"))
	var last context.Context
	for range 4 {
		tab, cancel := chromedp.NewContext(ctx)
		last = tab
		t.Cleanup(cancel)
		do(t, tab)
		do(t, tab, chromedp.Navigate(base+"/"), until(live(5)+" && "+items(5)+" == 4 && "+items(7)+" == 21"))
	}
	// A tab that joins reads what is unread through a stream of its own, for a moment.
	open := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.lines[5]) + len(p.lines[7])
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(waitFor); open() != 2; <-look.C {
		if time.Now().After(deadline) {
			t.Fatalf("five tabs of two users hold %d streams, want 2", open())
		}
	}
	do(t, ctx, chromedp.Evaluate[chromedp.Void](`document.querySelector("#user-5 .item .read").focus()`),
		chromedp.KeyEvent(kb.Enter), until(`document.querySelector("#user-5 .badge").textContent == "3"`))
	do(t, last, until(`document.querySelector("#user-5 .badge").textContent == "3"`), happened(5, "was marked as read in another tab"))
	do(t, ctx, chromedp.Reload(), until(live(5)+" && "+items(5)+" == 3"))
}

// demoFaults presses what breaks things: a row that is inserted meanwhile comes.
func demoFaults(t *testing.T, base string) {
	ctx := browser(t)
	do(t, ctx, chromedp.Navigate(base+"/"), until(live(5)+" && "+items(5)+" >= 1"))
	insert := func() {
		t.Helper()
		n := value(t, ctx, chromedp.Evaluate[int](items(5)))
		do(t, ctx, click(`#user-5 button[data-kind=task]`), until(fmt.Sprintf("%s == %d", items(5), n+1)))
	}
	do(t, ctx, click(`#user-5 .expire`), happened(5, "the next token lasts"))
	insert()
	do(t, ctx, happened(5, "the token is about to expire"))
	insert()
	do(t, ctx, click(`[data-system=replica]`), happened(5, "was killed, and runs again"), until(live(5)))
	insert()
	do(t, ctx, click(`[data-system=postgres]`), happened(5, "Postgres was away for"), until(live(5)))
	insert()
}

// A page that scrolls sideways on a telephone is broken there; so is one that is
// not to be read in the dark.
func demoPageNarrow(t *testing.T, base string) {
	ctx := browser(t)
	do(t, ctx, chromedp.EmulateViewport(400, 860), chromedp.Navigate(base+"/"),
		until(`document.querySelectorAll(".state.live").length == 2`),
		click(`#user-5 button[data-kind=task]`),
		until(`document.querySelector("#user-5 .item") != null`))
	if width := value(t, ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth`)); width > 400 {
		t.Errorf("the page is %d pixels wide at 400", width)
	}
	picture(t, ctx, "NARROW_PICTURE")
	for scheme, name := range map[string]string{"dark": "NARROW_DARK_PICTURE", "light": "NARROW_LIGHT_PICTURE"} {
		_, err := chromedp.Run(ctx, func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
			var nothing map[string]any
			return chromedp.Void{}, target.Call(ctx, "Emulation.setEmulatedMedia", map[string]any{
				"features": []map[string]any{{"name": "prefers-color-scheme", "value": scheme}},
			}, &nothing)
		})
		if err != nil {
			t.Fatal(err)
		}
		do(t, ctx, until(fmt.Sprintf(`matchMedia("(prefers-color-scheme: %s)").matches`, scheme)))
		picture(t, ctx, name)
		do(t, ctx, chromedp.EmulateViewport(1280, 900))
		picture(t, ctx, strings.Replace(name, "NARROW", "WIDE", 1))
		do(t, ctx, chromedp.EmulateViewport(400, 860))
	}
}

// picture writes a screenshot into the file that a variable names.
func picture(t *testing.T, ctx context.Context, variable string) {
	t.Helper()
	if name := os.Getenv(variable); name != "" {
		if err := os.WriteFile(name, value(t, ctx, chromedp.CaptureScreenshot()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// browser starts a headless Chromium of its own for a test.
func browser(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Env("TMPDIR="+t.TempDir()), // it leaves a directory behind when it is killed
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-quic", true))
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts it, without a deadline
		t.Fatalf("start Chromium (see .ci/install): %v", err)
	}
	return ctx
}

// until waits for a JavaScript expression to become true.
func until(expression string) chromedp.Action[chromedp.Void] {
	return chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(waitFor))
}

func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

func value[T any](t *testing.T, ctx context.Context, a chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

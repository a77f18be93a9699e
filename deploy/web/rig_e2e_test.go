//go:build e2e

package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const (
	alice, bob = 5, 7
	secret     = "a secret of the browser tests of 32 bytes and more"
	patience   = 60 * time.Second // for one thing to happen, on a slow machine
)

// binary is the gateway, built once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "notification-gateway-web-")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "gateway")
	if out, err := exec.Command("go", "build", "-o", name, "../../cmd/gateway").CombinedOutput(); err != nil {
		return name, fmt.Errorf("build the gateway: %w\n%s", err, out)
	}
	return name, nil
})

func TestMain(m *testing.M) {
	code := storetest.Main(m)
	if name, _ := binary(); name != "" {
		os.RemoveAll(filepath.Dir(name))
	}
	os.Exit(code)
}

// rig is one test's world: a Chromium with tabs, the front that they talk to, a
// gateway behind it and the CRM's database.
type rig struct {
	*testing.T
	db      *throwaway.DB
	dsn     string
	front   *front
	gateway *gateway
	browser context.Context

	mu      sync.Mutex
	written []int // IDs of Alice's rows; guarded by mu
}

func setup(t *testing.T, env ...string) *rig {
	t.Helper()
	r := &rig{T: t, dsn: storetest.CRM(t)}
	var err error
	if r.db, err = throwaway.Open(t.Context(), r.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.db.Close)
	r.front = newFront(t, r.db)
	r.start(env...)
	r.browser = chromium(t)
	return r
}

// gateway is a process of the real program.
type gateway struct {
	cmd    *exec.Cmd
	exited <-chan struct{}
	public string
}

// start starts a gateway and puts it behind the front.
func (r *rig) start(env ...string) {
	r.Helper()
	name, err := binary()
	if err != nil {
		r.Fatal(err)
	}
	g := &gateway{cmd: exec.Command(name, "serve")}
	g.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "DATABASE_URL=" + r.dsn, "GATEWAY_JWT_SECRET=" + secret, "GATEWAY_ADDR=127.0.0.1:0",
		"GATEWAY_ADMIN_ADDR=127.0.0.1:0", "GATEWAY_COOKIE_INSECURE=true", "GATEWAY_PING_INTERVAL=1s", "GATEWAY_DRAIN=1s",
		"GATEWAY_JWT_LEEWAY=1s", "GATEWAY_RECIPIENT=claim", "GATEWAY_MAX_STREAMS=1000",
	}, env...)
	read, write, err := os.Pipe()
	if err != nil {
		r.Fatal(err)
	}
	g.cmd.Stderr = write
	g.exited, err = throwaway.StartTied(g.cmd)
	write.Close()
	if err != nil {
		r.Fatal(err)
	}
	addresses := make(chan [2]string, 1) // public and admin, once
	go func() {
		defer read.Close()
		var found [2]string
		for lines := bufio.NewScanner(read); lines.Scan(); {
			var line struct{ Level, Msg, Addr string }
			switch json.Unmarshal(lines.Bytes(), &line); line.Msg {
			case "listening":
				found[0] = "http://" + line.Addr
			case "admin listening":
				found[1] = "http://" + line.Addr
				addresses <- found
			}
			if line.Level != "INFO" {
				fmt.Fprintln(os.Stderr, "gateway:", lines.Text())
			}
		}
	}()
	r.Cleanup(func() { g.stop() })
	r.gateway = g
	select {
	case found := <-addresses:
		g.public = found[0]
		r.eventually("the gateway is ready", func() bool {
			resp, err := http.Get(found[1] + "/readyz")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	case <-g.exited:
		r.Fatal("the gateway ended at once")
	case <-time.After(patience):
		r.Fatal("the gateway does not listen")
	}
	r.front.use(g.public)
}

// stop drains the gateway; kill does not.
func (g *gateway) stop() { g.cmd.Process.Signal(syscall.SIGTERM); <-g.exited }
func (g *gateway) kill() { g.cmd.Process.Kill(); <-g.exited }

// eventually looks again and again, until patience ends.
func (r *rig) eventually(what string, is func() bool) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !is() {
		select {
		case <-look.C:
		case <-ctx.Done():
			r.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// chromium starts a browser of the test's own.
func chromium(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Env("TMPDIR="+t.TempDir()), // it leaves a directory behind when it is killed
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-quic", true),
		// A name that is no loopback address is plain HTTP's: no secure context, no locks.
		chromedp.Flag("host-resolver-rules", "MAP crm.test 127.0.0.1"))
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts it, without a deadline
		t.Fatalf("start Chromium (see .ci/install): %v", err)
	}
	return ctx
}

// tab is a page that uses the module.
type tab struct {
	*rig
	name  string
	ctx   context.Context
	close func()
	since int // how many rows were written before it was live
}

// open opens a tab of Alice's, with options of the module as JSON, and waits
// until it is live.
func (r *rig) open(options string) *tab {
	r.Helper()
	tab := r.visit(fmt.Sprintf("%s/tab?as=%d&o=%s", r.front.server.URL, alice, url.QueryEscape(options)))
	tab.until(`states.at(-1) === "live"`)
	tab.since = len(r.rows())
	return tab
}

func (r *rig) openAll(n int, options string) (all []*tab) {
	r.Helper()
	for range n {
		all = append(all, r.open(options))
	}
	return all
}

func (r *rig) visit(address string) *tab {
	r.Helper()
	ctx, cancel := chromedp.NewContext(r.browser, chromedp.WithNewWindow(false)) // the others are hidden then
	r.Cleanup(cancel)
	r.front.tabs++
	t := &tab{rig: r, name: fmt.Sprintf("tab %d", r.front.tabs), ctx: ctx, close: func() { chromedp.Cancel(ctx) }}
	if err := chromedp.Do(ctx); err != nil { // opens it, without a deadline
		r.Fatal(err)
	}
	if _, err := act(t, chromedp.Navigate(address)); err != nil {
		r.Fatal(err)
	}
	t.until(`"feed" in window`)
	return t
}

// until waits for a JavaScript expression to become true. It asks from outside,
// since a hidden tab's timers are slow.
func (t *tab) until(expression string) {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(patience); !eval[bool](t, "!!("+expression+")"); <-look.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %s; states are %s", t.name, patience, expression, eval[string](t, `JSON.stringify(window.states)`))
		}
	}
}

// act runs an action in a tab, which may hang.
func act[T any](t *tab, action chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(t.ctx, patience+10*time.Second)
	defer cancel()
	return chromedp.Run(ctx, action)
}

func eval[T any](t *tab, expression string) T {
	t.Helper()
	v, err := act(t, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %s: %v", t.name, expression, err)
	}
	return v
}

// do evaluates an expression whose value is of no interest.
func (t *tab) do(expression string) {
	t.Helper()
	eval[chromedp.Void](t, "void ("+expression+")")
}

// command sends a command of the Chrome DevTools Protocol.
func (t *tab) command(method string, params map[string]any) {
	t.Helper()
	_, err := act(t, func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		var nothing map[string]any
		return chromedp.Void{}, target.Call(ctx, method, params, &nothing)
	})
	if err != nil {
		t.Fatalf("%s: %s: %v", t.name, method, err)
	}
}

// leader returns the tab that holds the stream, and the others.
func (r *rig) leader(tabs []*tab) (leader *tab, others []*tab) {
	r.Helper()
	r.eventually("one tab leads", func() bool {
		leader, others = nil, nil
		for _, t := range tabs {
			if eval[bool](t, "feed.leading") {
				leader = t
			} else {
				others = append(others, t)
			}
		}
		return leader != nil && len(others) == len(tabs)-1
	})
	return leader, others
}

// insert writes a row for a user, as the CRM would, and returns its ID.
func (r *rig) insert(user int) int {
	r.Helper()
	var id int
	err := r.db.QueryRow(r.Context(), []any{&id},
		"INSERT INTO notifications (user_id, notification_type, title, message) VALUES ($1, 'x', 'a title', 'm') RETURNING id", user)
	if err != nil {
		r.Fatal(err)
	}
	if user == alice {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.written = append(r.written, id)
	}
	return id
}

// rows are the IDs of Alice's rows so far.
func (r *rig) rows() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.written)
}

// during writes rows for Alice, and one for Bob, while something happens and a
// little longer.
func (r *rig) during(happens func()) {
	r.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		r.insert(bob)
		pause := time.NewTicker(25 * time.Millisecond)
		defer pause.Stop()
		for left := 20; left > 0; <-pause.C {
			r.insert(alice)
			select {
			case <-stop:
				left--
			default:
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	happens()
}

// tally waits until each tab has the last row, and says how many of the rows
// since it was live it got: each must have come once, and nobody else's.
func (r *rig) tally(tabs ...*tab) {
	r.Helper()
	began := time.Now()
	rows := r.rows()
	var delivered, doubled, lost int
	for _, t := range tabs {
		last := rows[len(rows)-1]
		t.until(fmt.Sprintf("%d in got", last))
		got := eval[map[string]int](t, "got")
		if eval[bool](t, "!!window.wrong") {
			t.Errorf("%s got a row of another user", t.name)
		}
		for _, id := range rows[t.since:] {
			n := got[fmt.Sprint(id)]
			if n == 0 {
				lost++
				continue
			}
			delivered++
			doubled += n - 1
		}
	}
	opened, most := r.front.count()
	r.Logf("%s: %d tabs: delivered %d, doubled %d, lost %d, complete after %v; %d streams opened, at most %d at a time",
		strings.TrimPrefix(r.Name(), "TestE2E"), len(tabs), delivered, doubled, lost, time.Since(began).Round(time.Millisecond), opened, most)
	if doubled > 0 || lost > 0 {
		r.Errorf("doubled %d, lost %d", doubled, lost)
	}
}

//go:build e2e

package web

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// The clients that people have must get each row once and go on after a cut, as
// README.md says: a page that promises it for a library that cannot do it costs
// its readers their notifications.
func TestE2EClients(t *testing.T) {
	node := install(t, "testdata/clients/node", "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	programs := install(t, "testdata/clients/go", "go", "build", "-o", "clients", ".")
	python := "/usr/bin/python3" // where Debian's requests is
	for name, command := range map[string][]string{
		"eventsource":              {"node", node + "/eventsource.mjs"},
		"fetch-event-source":       {"node", node + "/fetch-event-source.mjs"},
		"reconnecting-eventsource": {"node", node + "/reconnecting-eventsource.mjs"},
		"requests":                 {python, "testdata/clients/with_requests.py"},
		"curl":                     {"bash", "testdata/clients/curl.sh"},
		"r3labs":                   {programs + "/clients", "r3labs"},
		"tmaxmax":                  {programs + "/clients", "tmaxmax"},
	} {
		t.Run(name, func(t *testing.T) { followClient(t, command) })
	}
}

// install makes a copy of a folder and runs what gets its libraries there.
func install(t *testing.T, folder string, command ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s in %s: %v\n%s", strings.Join(command, " "), folder, err, out)
	}
	return filepath.ToSlash(dir)
}

func followClient(t *testing.T, command []string) {
	r := &rig{T: t, dsn: storetest.CRM(t)}
	var err error
	if r.db, err = throwaway.Open(t.Context(), r.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.db.Close)
	r.front = newFront(t, r.db)
	r.start()
	cmd := exec.Command(command[0], append(command[1:], r.front.server.URL+"/api/notifications/stream/", r.front.token(alice))...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	exited, err := throwaway.StartTied(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); <-exited })
	lines := make(chan string, 100) // more than a client has to say
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	got := map[string]int{}
	next := func(want string) {
		t.Helper()
		for deadline := time.After(patience); got[want] == 0; {
			select {
			case line, ok := <-lines:
				if !ok {
					t.Fatalf("the client ended before %q", want)
				}
				got[line]++
			case <-deadline:
				t.Fatalf("no %q", want)
			}
		}
	}
	next("connected")
	next(fmt.Sprint("notification ", r.insert(alice)))
	for range 2 {
		r.front.cut()
		next(fmt.Sprint("notification ", r.insert(alice)))
	}
	next(fmt.Sprint("notification ", r.insert(alice)))
	for line, n := range got {
		if n > 1 && line != "connected" {
			t.Errorf("%s came %d times", line, n)
		}
	}
}

// What people copy must run: the plain example, and the hook in the real React.
func TestE2EExamples(t *testing.T) {
	r := setup(t)
	node := install(t, "testdata/clients/node", "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	mux := http.NewServeMux()
	mux.Handle("/", r.front.server.Config.Handler)
	mux.Handle("/node_modules/", http.FileServer(http.Dir(node)))
	for _, name := range []string{"example.js", "useNotifications.js"} {
		mux.HandleFunc("/"+name, func(w http.ResponseWriter, req *http.Request) { http.ServeFile(w, req, name) })
	}
	pages := map[string]string{
		"/example": `<ul id="notifications"></ul><b id="unread"></b><p id="status"></p><script type="module" src="/example.js"></script>`,
		"/react": `<div id="root"></div><script type="importmap">{"imports":{"react":"/react.js"}}</script>
			<script src="/node_modules/react/umd/react.development.js"></script><script src="/node_modules/react-dom/umd/react-dom.development.js"></script>
			<script type="module">
			import { useNotifications } from "/useNotifications.js";
			const e = React.createElement;
			const load = async () => (await (await fetch("/list?user=5")).json()).map((id) => ({ id, title: "listed" }));
			function Bell() {
				const { rows, state } = useNotifications({ user: "alice", load });
				return e("div", null, e("p", { id: "status" }, state), e("ul", { id: "notifications" }, rows.map((n) => e("li", { key: n.id }, n.title))));
			}
			const root = ReactDOM.createRoot(document.querySelector("#root"));
			root.render(e(React.StrictMode, null, e(Bell)));
			window.unmount = () => root.unmount();
			</script>`,
	}
	for path, body := range pages {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "notifications_token", Value: r.front.token(alice), Path: "/api/notifications/"})
			fmt.Fprint(w, "<!doctype html><script>window.feed = 1; window.states = []</script>"+body)
		})
	}
	mux.HandleFunc("/react.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(w, "export const { useEffect, useState } = React;")
	})
	r.front.server.Config.Handler = mux
	r.insert(alice)
	plain, react := r.visit(r.front.server.URL+"/example"), r.visit(r.front.server.URL+"/react")
	plain.until(`document.querySelectorAll("#notifications li").length === 1`)
	react.until(`document.querySelectorAll("#notifications li").length === 1 && document.querySelector("#status").textContent === "live"`)
	r.insert(alice)
	plain.until(`document.querySelector("#unread").textContent === "2"`)
	react.until(`document.querySelectorAll("#notifications li")[0].textContent === "a title"`)
	react.do(`unmount()`)
	r.insert(alice)
	plain.until(`document.querySelector("#unread").textContent === "3"`)
	plain.close()
	r.eventually("no stream is left", func() bool { return r.front.streams() == 0 })
}

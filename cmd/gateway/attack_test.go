package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const (
	hostileVariable = "NOTIFICATION_GATEWAY_TEST_HOSTILE" // address, connections and a token: the child's task
	hostileUser     = 99
	hostilePause    = time.Second // between being cut off and coming back
	hostileSources  = 20          // 127.0.0.2 and up: one address has too few ports
)

// attack is how large an attack is, and the quiet time before it.
type attack struct {
	hostile, users, tabs int // tabs of each user
	rate                 int // rows a second
	before, during       time.Duration
}

// Hostile connections that do everything but behave must not end, starve or
// slow down the streams of others. BenchmarkAttack is the same at full size.
func TestHonestStreamsGoOnUnderAttack(t *testing.T) {
	a := attack{hostile: 300, users: 3, tabs: 5, rate: 20, before: time.Second, during: 3 * time.Second}
	if f := a.run(t); f.received != f.expected {
		t.Errorf("honest streams received %d of %d", f.received, f.expected)
	}
}

// BenchmarkAttack has 10,000 hostile connections against 200 honest streams.
func BenchmarkAttack(b *testing.B) {
	for b.Loop() {
		f := attack{hostile: 10_000, users: 10, tabs: 20, rate: 50, before: 5 * time.Second, during: 25 * time.Second}.run(b)
		if f.received != f.expected {
			b.Errorf("honest streams received %d of %d", f.received, f.expected)
		}
		b.ReportMetric(float64(f.hostileOpen), "hostile-open")
		b.ReportMetric(float64(f.hostileMade), "hostile-connects")
		b.ReportMetric(float64(f.received), "received")
		b.ReportMetric(float64(f.expected), "expected")
		for name, lags := range map[string][]time.Duration{"before": f.before, "during": f.during} {
			b.ReportMetric(float64(lags[len(lags)/2].Microseconds())/1000, name+"-median-ms")
			b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds())/1000, name+"-p99-ms")
		}
		b.ReportMetric(float64(f.rssBefore)/1024, "before-rss-MB")
		b.ReportMetric(float64(f.rssPeak)/1024, "peak-rss-MB")
	}
}

// figures are what an attack's run gave; lags are sorted.
type figures struct {
	expected, received       int
	before, during           []time.Duration
	hostileOpen, hostileMade int
	rssBefore, rssPeak       int // KB
}

func (a attack) run(t testing.TB) (f figures) {
	url := storetest.CRM(t)
	db := open(t, url)
	environment(t, url)
	g, pid := serveBinary(t)
	g.readyz(t, 200)
	streams := a.connect(t, g, db)

	titles := make(chan struct{}) // closed when every row was read everywhere
	rows := int((a.before + a.during).Seconds() * float64(a.rate))
	committed := make([]atomic.Int64, rows) // UnixNano
	lags := make([][]time.Duration, len(streams))
	var reading sync.WaitGroup
	for i, lines := range streams {
		reading.Go(func() {
			mine := make([]time.Duration, 0, rows/a.users+1)
			for len(mine) < rows/a.users && lines.Scan() {
				_, rest, found := strings.Cut(lines.Text(), `"title":"row `)
				if !found {
					continue
				}
				now := time.Now().UnixNano()
				number, _, _ := strings.Cut(rest, `"`)
				n, err := strconv.Atoi(number)
				if err != nil {
					return
				}
				at := committed[n].Load()
				mine = append(mine, time.Duration(max(0, now-cmp.Or(at, now)))) // it may come before the acknowledgement
			}
			lags[i] = mine
		})
	}
	go func() { reading.Wait(); close(titles) }()

	quiet := int(a.before.Seconds() * float64(a.rate))
	tick := time.NewTicker(time.Second / time.Duration(a.rate))
	defer tick.Stop()
	stop := func() (int, int) { return 0, 0 }
	f.rssBefore = rss(t, pid)
	for n := range rows {
		if n == quiet {
			stop = startHostile(t, g.public, a.hostile, mint(t, strconv.Itoa(hostileUser)))
		}
		<-tick.C
		if err := db.Exec(context.Background(), "INSERT INTO notifications (user_id, notification_type, title, message) VALUES ($1, 'x', $2, 'm')",
			100+n%a.users, fmt.Sprintf("row %d", n)); err != nil {
			t.Fatal(err)
		}
		committed[n].Store(time.Now().UnixNano())
		if n%a.rate == 0 && n >= quiet {
			f.rssPeak = max(f.rssPeak, rss(t, pid))
		}
	}
	select {
	case <-titles:
	case <-time.After(30 * time.Second):
		t.Error("rows are missing after half a minute")
		if p, err := os.FindProcess(pid); err == nil {
			p.Kill() // the readers end
		}
		<-titles
	}
	f.hostileOpen, f.hostileMade = stop()
	f.expected = rows / a.users * len(streams)
	for _, mine := range lags {
		f.received += len(mine)
		first := min(quiet/a.users, len(mine))
		f.before, f.during = append(f.before, mine[:first]...), append(f.during, mine[first:]...)
	}
	slices.Sort(f.before)
	slices.Sort(f.during)
	return f
}

// connect opens every user's tabs.
func (a attack) connect(t testing.TB, g *instance, db *throwaway.DB) (streams []*bufio.Scanner) {
	if err := db.Exec(t.Context(), fmt.Sprintf("INSERT INTO employees (id, first_name, last_name, email) SELECT i, 'f', 'l', i || '@example.com' FROM generate_series(99, %d) i", 100+a.users)); err != nil {
		t.Fatal(err)
	}
	for user := range a.users {
		token := mint(t, strconv.Itoa(100+user))
		for range a.tabs {
			lines := g.stream(t, token, "")
			until(t, lines, "Connected")
			streams = append(streams, lines)
		}
	}
	return streams
}

// serveBinary builds and starts the program as it is shipped.
func serveBinary(t testing.TB) (*instance, int) {
	binary := filepath.Join(t.TempDir(), "gateway")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.Command(binary)
	log := &logBuffer{found: make(chan [2]string, 1)}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	select {
	case a := <-log.found:
		return &instance{public: a[0], admin: a[1], log: log}, cmd.Process.Pid
	case <-time.After(30 * time.Second):
		t.Fatalf("does not listen: %s", log)
		return nil, 0
	}
}

// rss is the resident set of a process, in KB.
func rss(t testing.TB, pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip("there is no /proc here")
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// startHostile starts a process that attacks, because one process has too few
// files; the function that it returns ends it and tells how many connections
// were open at the end and were made in all.
func startHostile(t testing.TB, base string, connections int, token string) func() (open, made int) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", hostileVariable, strings.TrimPrefix(base, "http://"), connections, token))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() (open, made int) {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if _, err := fmt.Sscan(out.String(), &open, &made); err != nil {
			t.Error(err)
		}
		return open, made
	}
}

// hostile attacks until its input ends.
func hostile(task string) {
	var address, token string
	var connections int
	if _, err := fmt.Sscan(task, &address, &connections, &token); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	head := "GET /api/notifications/stream/ HTTP/1.1\r\nHost: x\r\n"
	ways := []string{
		"GET /api/notif", // the rest never comes
		strings.Repeat("\x16\x03\x01garbage\x00", 100),
		head + "X: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
		head + "Authorization: Bearer a.b.c\r\n\r\n", // again and again, see below
		"", // not a byte
		head + "Authorization: Bearer " + token + "\r\n\r\n", // a stream that is never read
		"POST /api/notifications/session/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
	}
	var open, made atomic.Int64
	for i := range connections {
		go func() {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%hostileSources))}}
			for way := i % len(ways); ; time.Sleep(hostilePause) {
				c, err := dialer.Dial("tcp", address)
				if err != nil {
					continue
				}
				open.Add(1)
				made.Add(1)
				switch way {
				case 3:
					for buffer := make([]byte, 4096); err == nil; time.Sleep(hostilePause / 4) {
						if _, err = io.WriteString(c, ways[way]); err == nil {
							_, err = c.Read(buffer)
						}
					}
				case 5:
					c.(*net.TCPConn).SetReadBuffer(1024)
					io.WriteString(c, ways[way])
					time.Sleep(time.Minute)
				default:
					io.WriteString(c, ways[way])
					io.Copy(io.Discard, c)
				}
				c.Close()
				open.Add(-1)
			}
		}()
	}
	io.Copy(io.Discard, os.Stdin)
	fmt.Println(open.Load(), made.Load())
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// silence is a client that opens a stream and reads nothing, among others of
// the same user that read.
type silence struct {
	rows, others int
	pace         time.Duration // between two rows
}

// atOnce is how many rows are inserted before the readers are waited for.
const atOnce = 5

// silenceFigures are what came of it.
type silenceFigures struct {
	ended  int // rows until the stream was ended
	kernel int // bytes in the sockets of both ends then
	lost   int
}

// A client that reads nothing costs its buffer and what the kernel takes, which
// would be megabytes if nobody bounded it; it is told, and misses nothing.
func TestSilentClient(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	g := serveInTest(t)
	f := silence{rows: 250, others: 5, pace: time.Millisecond}.run(t, g, url)
	t.Logf("ended after %d rows with %d bytes in the kernel", f.ended, f.kernel)
	if f.ended > 200 || f.kernel > 150_000 || f.lost > 0 {
		t.Errorf("ended after %d rows with %d bytes in the kernel, %d rows lost", f.ended, f.kernel, f.lost)
	}
}

// BenchmarkSilentClient is a minute of silence under 1,000 notifications a second.
func BenchmarkSilentClient(b *testing.B) {
	url := storetest.CRM(b)
	environment(b, url)
	for b.Loop() {
		g, pid := serveBinary(b)
		g.readyz(b, 200)
		before := rss(b, pid)
		f := silence{rows: 60_000, others: 5, pace: time.Millisecond}.run(b, g, url)
		b.ReportMetric(float64(f.ended), "rows-until-ended")
		b.ReportMetric(float64(f.kernel)/1024, "kernel-KB")
		b.ReportMetric(float64(f.lost), "lost")
		b.ReportMetric(float64(before)/1024, "before-rss-MB")
		b.ReportMetric(float64(rss(b, pid))/1024, "after-rss-MB")
	}
}

func (s silence) run(t testing.TB, g *instance, url string) (f silenceFigures) {
	db := open(t, url)
	g.readyz(t, 200)
	token := mint(t, "5")
	// Its own end takes little, so that what is measured is the gateway's.
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		e := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		return errors.Join(err, e)
	}}
	silent, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(g.public, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	fmt.Fprintf(silent, "GET /api/notifications/stream/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", token)
	for g.metric(t, "streams") != 1 {
	}
	var others []chan string
	var reading sync.WaitGroup
	for range s.others {
		lines, titles := g.stream(t, token, ""), make(chan string, 1)
		until(t, lines, "Connected")
		others = append(others, titles)
		reading.Go(func() {
			defer close(titles)
			for n := 0; n < s.rows && lines.Scan(); {
				if title, found := titleOf(lines.Text()); found {
					titles <- title
					n++
				}
			}
		})
	}
	message := strings.Repeat("m", 370) // an event of about 700 bytes, with its cursor
	next := time.Now()
	for n := 0; n < s.rows; n += atOnce {
		if err := db.Exec(context.Background(), `INSERT INTO notifications (user_id, notification_type, title, message)
			SELECT 5, 'x', 'row ' || i, $3 FROM generate_series($1::int, $2) i`, n, n+atOnce-1, message); err != nil {
			t.Fatal(err)
		}
		for i, titles := range others {
			for k := range atOnce {
				if got, want := <-titles, fmt.Sprint("row ", n+k); got != want {
					t.Fatalf("client %d got %q, want %q", i, got, want)
				}
			}
		}
		if f.ended == 0 && g.metric(t, "slow_consumers_total") == 1 {
			f.ended, f.kernel = n+atOnce, inKernel(t, silent)
		}
		next = next.Add(atOnce * s.pace)
		time.Sleep(time.Until(next)) // the rate
	}
	reading.Wait()
	if f.ended == 0 {
		t.Fatalf("%d rows were taken for a client that does not read; %d bytes are in the kernel", s.rows, inKernel(t, silent))
	}
	f.lost = s.rows - s.awake(t, g, silent, token)
	return f
}

// awake reads what the silent client was left with, resumes, and returns how
// many rows it then has.
func (s silence) awake(t testing.TB, g *instance, silent net.Conn, token string) int {
	resp, err := http.ReadResponse(bufio.NewReader(silent), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := map[string]bool{}
	read := func(r io.Reader, enough string) (lastID string) {
		for lines := bufio.NewScanner(r); !got[enough] && lines.Scan(); {
			if title, found := titleOf(lines.Text()); found {
				got[title] = true
			}
			if id, found := strings.CutPrefix(lines.Text(), "id: "); found {
				lastID = id
			}
			if strings.Contains(lines.Text(), `"code":"slow_consumer"`) {
				got["slow_consumer"] = true
			}
		}
		return lastID
	}
	lastID := read(resp.Body, "never")
	told := got["slow_consumer"]
	if s.pace == 0 && !told { // else its connection may have been cut by then
		t.Error("it was not told slow_consumer")
	}
	delete(got, "slow_consumer")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.public+"/api/notifications/stream/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Last-Event-ID", lastID)
	again, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Body.Close()
	read(again.Body, fmt.Sprint("row ", s.rows-1))
	return len(got)
}

// inKernel is how many bytes wait in the sockets at both ends of a connection
// (https://docs.kernel.org/networking/proc_net_tcp.html).
func inKernel(t testing.TB, c net.Conn) (bytes int) {
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Skip("there is no /proc here")
	}
	here, there := c.LocalAddr().(*net.TCPAddr).Port, c.RemoteAddr().(*net.TCPAddr).Port
	for line := range strings.Lines(string(text)) {
		var slot, from, to, state, queues string
		if _, err := fmt.Sscan(line, &slot, &from, &to, &state, &queues); err != nil {
			continue
		}
		var a, b, sent, received int
		fmt.Sscanf(from[strings.LastIndex(from, ":")+1:], "%X", &a)
		fmt.Sscanf(to[strings.LastIndex(to, ":")+1:], "%X", &b)
		if a == here && b == there || a == there && b == here {
			fmt.Sscanf(queues, "%X:%X", &sent, &received)
			bytes += sent + received
		}
	}
	return bytes
}

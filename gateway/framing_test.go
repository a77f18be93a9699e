package gateway

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
)

// head sends a request by hand and returns the answer's head and what follows it.
func (r *rig) head(version string) (map[string]string, *bufio.Reader) {
	r.Helper()
	c := r.dial()
	fmt.Fprintf(c, "GET /api/notifications/stream/?token=5 %s\r\nHost: x\r\n\r\n", version)
	lines := bufio.NewReader(c)
	head := map[string]string{}
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			r.Fatal(err)
		}
		if line == "\r\n" {
			return head, lines
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		head[name] = value
	}
}

// A client that reads a close-delimited body by blocks, such as requests with
// iter_content(1024), shows nothing until the block is full. It shows each chunk
// at once, so one chunk must be one whole event, and the last chunk must come.
func TestOneChunkIsOneEvent(t *testing.T) {
	bothWays(t, func(c *Config, _ *fakeVerifier) { c.StreamBuffer = 1 << 20 }, func(r *rig) {
		head, body := r.head("HTTP/1.1")
		for name, want := range map[string]string{
			"Transfer-Encoding": "chunked", "Connection": "close", "Content-Type": "text/event-stream; charset=utf-8",
		} {
			if head[name] != want {
				r.Errorf("%s is %q, want %q", name, head[name], want)
			}
		}
		large := `{"title":"ü` + strings.Repeat("x", 300_000) + `"}`
		r.deliver(r.source.add("5"))
		batch := r.source.add("5")
		r.source.rows[len(r.source.rows)-1].Data = []byte(large)
		r.deliver(batch)
		r.hub.end(r.streamOf("5"), endRevoked)
		for _, want := range []string{"Connected to", `{"id":2}`, large, "revoked"} {
			size, err := body.ReadString('\n')
			if err != nil {
				r.Fatal(err)
			}
			n, err := strconv.ParseUint(strings.TrimSuffix(size, "\r\n"), 16, 32)
			if err != nil {
				r.Fatalf("%.40q is no chunk size: %v", size, err)
			}
			chunk := make([]byte, n+2)
			if _, err := io.ReadFull(body, chunk); err != nil {
				r.Fatal(err)
			}
			text, whole := strings.CutSuffix(string(chunk), "\n\n\r\n")
			if !whole || strings.Contains(text, "\n\n") || !strings.Contains(text, want) {
				r.Fatalf("the chunk %.200q is not the one event with %.40q", chunk, want)
			}
		}
		rest, err := io.ReadAll(body)
		if err != nil || string(rest) != "0\r\n\r\n" {
			r.Errorf("after the last event: %q %v", rest, err)
		}
	})
}

// HTTP/1.0 has no chunks: its client would show their sizes as text.
func TestHTTP10EndsWithTheConnection(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		head, body := r.head("HTTP/1.0")
		r.deliver(r.source.add("5"))
		r.hub.end(r.streamOf("5"), endRevoked)
		rest, err := io.ReadAll(body)
		if err != nil || head["Transfer-Encoding"] != "" {
			r.Fatalf("%v %v", head, err)
		}
		events := strings.Split(string(rest), "\n\n")
		if len(events) != 4 || !strings.HasPrefix(events[0], "id: ") || !strings.HasSuffix(events[1], `{"id":2}`) || !strings.Contains(events[2], "revoked") || events[3] != "" {
			r.Errorf("the body is %q", rest)
		}
	})
}

// An HTTP/2 connection carries other streams too: neither a chunk's size nor
// Connection: close belongs there.
func TestHTTP2StreamsPlainEvents(t *testing.T) {
	r := setupTransport(t, overHTTP2, nil)
	for _, user := range []string{"5", "6"} { // Connection: close would end the connection under the second
		c := r.open(user, "")
		if first := c.expect("connected", ""); !strings.HasPrefix(first.raw, "id: ") {
			t.Errorf("the first event is %q", first.raw)
		}
	}
	resp, _ := r.request("HEAD", "/api/notifications/stream/?token=5", nil)
	if resp.ProtoMajor != 2 || resp.Header.Get("Connection") != "" {
		t.Errorf("%s %v", resp.Proto, resp.Header)
	}
	if n := r.connections.Load(); n != 1 {
		t.Errorf("%d connections for one client", n)
	}
}

package swarm

import (
	"fmt"
	"strings"
	"testing"
)

// A count that depends on where the network cuts the bytes would report events
// as lost that were not, or hide those that were.
func TestScanner(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	const connected = "id: a1\nevent: connected\nretry: 3000\ndata: {\"event: notification\":1}\n\n"
	const row = "id: b2\nevent: notification\ndata: {\"id\":1,\"title\":\"x\"}\n\n"
	for name, test := range map[string]struct {
		counted, response string
		want              Tally
		status            int
		id                string
	}{
		"plain": {"notification", head + connected + row + row + "event: ping\ndata: {}\n\n", Tally{Connected: 1, Notification: 2, Ping: 1}, 200, "b2"},
		"chunked": {
			"notification", chunked(head, connected, row[:7], row[7:], row+row+"\n"),
			Tally{Connected: 1, Notification: 3},
			200, "b2",
		},
		"CRLF":           {"notification", head + strings.ReplaceAll(connected+row, "\n", "\r\n"), Tally{Connected: 1, Notification: 1}, 200, "b2"},
		"no data":        {"notification", head + "event: notification\n\n" + row, Tally{Notification: 1}, 200, "b2"},
		"two data lines": {"notification", head + "event: notification\ndata: a\ndata: b\n\n", Tally{Notification: 1}, 200, ""},
		"comment":        {"notification", head + ": event: notification\n\n:\n\n" + row, Tally{Notification: 1}, 200, "b2"},
		"messages":       {"message", head + "data: 1\n\ndata:2\n\nevent: other\ndata: 3\n\n", Tally{Notification: 3}, 200, ""},
		"unfinished":     {"notification", head + row[:len(row)-1], Tally{}, 200, "b2"},
		"ends":           {"notification", head + "event: reset\ndata: {}\n\nevent: error\ndata: {}\n\n", Tally{Reset: 1, Error: 1}, 200, ""},
		"refused":        {"notification", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}", Tally{}, 401, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for cut := range len(test.response) {
				for _, step := range []int{len(test.response), 1} {
					s := scanner{counted: test.counted}
					var got Tally
					for _, part := range []string{test.response[:cut], test.response[cut:]} {
						for ; part != ""; part = part[min(step, len(part)):] {
							if err := s.feed([]byte(part[:min(step, len(part))]), &got); err != nil {
								t.Fatal(err)
							}
						}
					}
					if got != test.want || s.status != test.status || string(s.id) != test.id {
						t.Fatalf("cut at %d: %v, status %d, id %q", cut, got, s.status, s.id)
					}
				}
			}
		})
	}
}

// Why a server ended a stream stands in its error event alone.
func TestScannerKeepsTheErrorsCode(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	for response, want := range map[string]string{
		head + "event: error\ndata: {\"code\":\"replaced\",\"message\":\"x\"}\n\n":                     "replaced",
		head + "event: error\ndata: too many\n\n":                                                      `"too many"`,
		head + "event: error\n\nevent: notification\ndata: {\"code\":\"x\"}\n\ndata: {\"code\":1}\n\n": "",
	} {
		for cut := range len(response) {
			s := scanner{counted: "notification"}
			var got Tally
			for _, part := range []string{response[:cut], response[cut:]} {
				if err := s.feed([]byte(part), &got); err != nil {
					t.Fatal(err)
				}
			}
			if s.code != want || (want != "") != (got[Error] == 1) {
				t.Fatalf("%q cut at %d: code %q, %v", response, cut, s.code, got)
			}
		}
	}
}

// What is no event stream must end the run with a word, not be counted as
// silence.
func TestScannerRefuses(t *testing.T) {
	for _, response := range []string{
		"SSH-2.0-x\r\n\r\n",
		"HTTP/1.1 abc\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("x", maxHead+1),
		"HTTP/1.1 200 OK\r\n\r\nid: " + strings.Repeat("x", maxHead+1),
	} {
		s := scanner{}
		if err := s.feed([]byte(response), new(Tally)); err == nil {
			t.Errorf("no error for %.60q", response)
		}
	}
}

// chunked frames the parts of a body as net/http does.
func chunked(head string, parts ...string) string {
	out := strings.Replace(head, crlf, crlf+"Transfer-Encoding: chunked"+crlf, 1)
	for _, part := range parts {
		out += fmt.Sprintf("%x\r\n%s\r\n", len(part), part)
	}
	return out
}

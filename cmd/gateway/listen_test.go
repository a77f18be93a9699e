package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// Empty lines in front of a request are to be ignored (RFC 9112 section 2.2), and
// must not keep the connection with net/http, where a stream costs more.
func TestEmptyLinesBeforeARequest(t *testing.T) {
	environment(t, storetest.CRM(t))
	g := serveInTest(t)
	g.readyz(t, http.StatusOK)
	for _, lines := range []string{"", "\r\n", "\r\n\r\n"} {
		c := dial(t, strings.TrimPrefix(g.public, "http://"))
		if lines != "" {
			fmt.Fprint(c, lines[:1]) // may come alone
		}
		fmt.Fprintf(c, "%sGET /api/notifications/stream/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", strings.TrimPrefix(lines, "\r"), mint(t, "5"))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("after %q: %v %v", lines, resp, err)
		}
	}
}

// A replica without room must say so to whoever routes: it answers 503 faster
// than the others answer 200, so it would be taken for the least busy one.
func TestReadyzSaysFull(t *testing.T) {
	environment(t, storetest.CRM(t))
	t.Setenv("GATEWAY_MAX_STREAMS", "2")
	g := serveInTest(t)
	g.readyz(t, http.StatusOK)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	token := mint(t, "5")
	until(t, g.stream(t, token, ""), "Connected")
	g.readyz(t, http.StatusOK)
	until(t, g.streamUntil(ctx, t, token, ""), "Connected")
	if body := g.readyz(t, http.StatusServiceUnavailable); !strings.Contains(body, `"full"`) {
		t.Errorf("readyz says %s", body)
	}
	leave()
	g.readyz(t, http.StatusOK)
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

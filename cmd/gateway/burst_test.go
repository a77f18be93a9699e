package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// A bulk insert for one user is larger than any buffer. Whoever reads must get
// all of it on the stream that is open, once and in order; whoever does not read
// must be told.
func TestBurst(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	t.Setenv("GATEWAY_STREAM_BUFFER", "16384")
	db := open(t, url)
	g := serveInTest(t)
	g.readyz(t, 200)
	token := mint(t, "5")
	lines := g.stream(t, token, "")
	until(t, lines, "Connected")
	silent, err := net.Dial("tcp", strings.TrimPrefix(g.public, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	fmt.Fprintf(silent, "GET /api/notifications/stream/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", token)
	for g.metric(t, "streams") != 2 {
	}
	const bulks, rows = 3, 4000
	for i := range bulks {
		if err := db.Exec(context.Background(), `INSERT INTO notifications (user_id, notification_type, title, message)
			SELECT 5, 'x', 'row ' || i, repeat('m', 300) FROM generate_series($1::int, $2) i`, i*rows, (i+1)*rows-1); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < bulks*rows; {
		if !lines.Scan() {
			t.Fatalf("the stream ended before row %d", n)
		}
		if title, found := titleOf(lines.Text()); found {
			if title != fmt.Sprint("row ", n) {
				t.Fatalf("got %q, want row %d", title, n)
			}
			n++
		}
	}
	if n := g.metric(t, "bursts_total"); n == 0 {
		t.Error("no batch was larger than the buffer")
	}
	for g.metric(t, "slow_consumers_total") != 1 { // the silent one
	}
	for all := bufio.NewReader(silent); ; {
		line, err := all.ReadString('\n')
		if err != nil {
			t.Fatal("the silent client was not told")
		}
		if strings.Contains(line, `"code":"slow_consumer"`) {
			return
		}
	}
}

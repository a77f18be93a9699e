package store_test

import (
	"io"
	"net"
	"net/url"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// late carries connections to target and takes its time with every answer.
func late(t *testing.T, target string, delay time.Duration) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			t.Cleanup(func() { in.Close(); out.Close() })
			go func() { defer out.Close(); io.Copy(out, in) }()
			go func() {
				defer in.Close()
				b := make([]byte, 32<<10)
				for {
					n, err := out.Read(b)
					time.Sleep(delay)
					if _, e := in.Write(b[:n]); err != nil || e != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// A Postgres that always answers later than the feed waits would be asked for
// ever and never be heard: each try must wait longer than the last.
func TestSlowPostgresIsWaitedFor(t *testing.T) {
	t.Parallel()
	c := &crm{T: t, url: storetest.CRM(t)}
	c.conn = c.connect()
	u, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = late(t, u.Host, 60*time.Millisecond)
	c.make(store.Config{ListenURL: u.String()})
	c.feed.Impatient(20 * time.Millisecond)
	c.run(nil)
	for err := c.feed.Ready(); !strings.Contains(err.Error(), "does not answer in time"); err = c.feed.Ready() {
		runtime.Gosched()
	}
	c.next()
	c.sql("%s", insert(5, "slowly"))
	if got := c.titles(c.collect(1)); !reflect.DeepEqual(got, []string{"slowly"}) {
		t.Errorf("got %v", got)
	}
}

package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// BenchmarkReconnect is a client that opens a stream, reads the first event and
// leaves, with what the page of the browser module and curl send. The figure
// cpu-µs/op is that of the whole process; the client here is as cheap as it can be.
func BenchmarkReconnect(b *testing.B) {
	for name, target := range map[string]string{"header": "/api/notifications/stream/", "query": "/api/notifications/stream/?token=5&types=task_assignment"} {
		b.Run(name, func(b *testing.B) {
			source := &fakeSource{known: map[string]store.Cursor{}}
			g := New(Config{
				PathPrefix: "/api/notifications", PingInterval: time.Hour, CursorRefresh: time.Hour, MaxStreams: 100_000, MaxStreamsPerUser: 100_000,
				StreamBuffer: 1 << 16, ReplayLimit: 100, CookieName: "session", Logger: slog.New(slog.DiscardHandler),
			}, source, fakeVerifier{}, prometheus.NewRegistry())
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			server := &http.Server{Handler: g.Handler(), ConnState: g.ConnState, ReadHeaderTimeout: time.Minute}
			ctx, stop := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { server.Serve(listener) })
			running.Go(func() { g.Run(ctx) })
			b.Cleanup(func() { server.Close(); stop(); running.Wait() })
			if err := g.Deliver(ctx, source.add("nobody")); err != nil {
				b.Fatal(err)
			}
			request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: crm.example.com\r\nAccept: text/event-stream\r\nAccept-Encoding: gzip, deflate, br\r\n"+
				"User-Agent: Mozilla/5.0\r\nCache-Control: no-cache\r\nAuthorization: Bearer 5\r\n\r\n", target)
			answer := make([]byte, 4096)
			var before, after syscall.Rusage
			syscall.Getrusage(syscall.RUSAGE_SELF, &before)
			b.ResetTimer()
			for b.Loop() {
				c, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				c.(*net.TCPConn).SetLinger(0) // leaves no port behind
				c.Write(request)
				if n, err := c.Read(answer); err != nil || !strings.Contains(string(answer[:n]), "connected") {
					b.Fatalf("%q %v", answer[:n], err)
				}
				c.Close()
			}
			syscall.Getrusage(syscall.RUSAGE_SELF, &after)
			cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
			b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

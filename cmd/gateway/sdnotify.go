package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

const (
	statusInterval = time.Second     // between two looks at what systemctl status shows
	stopMargin     = 5 * time.Second // that systemd waits past the time by which the process should be gone
)

// notifier tells systemd how the service is, as sd_notify(3) does
// (https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).
// One without a socket tells nobody.
type notifier struct {
	logger *slog.Logger
	conn   net.Conn // nil where nobody listens
}

// newNotifier connects to the socket that NOTIFY_SOCKET names, a path or, with
// @ in front, an abstract name. A socket that cannot be reached is logged: the
// service itself is not the worse for it.
func newNotifier(socket string, logger *slog.Logger) *notifier {
	n := &notifier{logger: logger}
	if socket == "" {
		return n
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		logger.Warn("systemd cannot be told of the start", "err", err)
		return n
	}
	n.conn = conn
	return n
}

// send sends assignments such as READY=1, all in one datagram.
func (n *notifier) send(assignments ...string) {
	if n.conn == nil {
		return
	}
	if _, err := n.conn.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		n.logger.Debug("systemd was not told", "err", err)
	}
}

// stopping announces the end of the process. EXTEND_TIMEOUT_USEC has systemd
// wait for as long as GATEWAY_DRAIN says, where TimeoutStopSec is shorter.
func (n *notifier) stopping(within time.Duration) {
	n.send("STOPPING=1", "STATUS=draining", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (within+stopMargin).Microseconds()))
}

// keepStatus keeps the line of systemctl status up to date until ctx ends, and
// returns its cause.
func (n *notifier) keepStatus(ctx context.Context, status func() string) error {
	if n.conn == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	defer n.conn.Close() // datagrams have no end to be told
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	for told := ""; ; {
		if text := status(); text != told {
			n.send("STATUS=" + text)
			told = text
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// status is the line that systemctl status shows.
func (s *service) status() string {
	text := fmt.Sprintf("streams: %d", s.gateway.Streams())
	select {
	case <-s.draining:
		return "draining; " + text
	default:
	}
	if s.feed.Ready() != nil {
		return text + "; not connected to Postgres: /readyz says why"
	}
	return text
}

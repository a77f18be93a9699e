//go:build unix

package main

import (
	"crypto/tls"
	"log/slog"
	"math"
	"net"
	"net/http"
	"syscall"

	"golang.org/x/sys/unix"
)

// filesBeside is what the process opens besides its streams: listeners,
// connections to Postgres, files.
const filesBeside = 100

// openFileLimit is the process's, which Go raises to the hard limit at start.
func openFileLimit() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxUint64
	}
	return limit.Cur
}

// warnOpenFiles compares the open-file limit with the streams that are
// allowed: past it, new connections are closed at once.
func warnOpenFiles(c config, logger *slog.Logger) {
	if limit := openFileLimit(); limit < uint64(c.MaxStreams+filesBeside) {
		logger.Warn("the open-file limit is below GATEWAY_MAX_STREAMS", "open_files", limit, "max_streams", c.MaxStreams)
	}
}

// keepFiles closes a new connection when nearly all files are taken, so that
// no number of clients can take away those with which the process reconnects
// to Postgres and the key server. The kernel gives the lowest free descriptor:
// one within the reserve says that all below are taken.
func keepFiles(limit uint64) func(net.Conn, http.ConnState) {
	return func(c net.Conn, state http.ConnState) {
		if state != http.StateNew {
			return
		}
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		s, ok := c.(syscall.Conn)
		if !ok {
			return
		}
		raw, err := s.SyscallConn()
		if err != nil {
			return
		}
		if err := raw.Control(func(fd uintptr) { ok = uint64(fd)+filesBeside <= limit }); err == nil && !ok {
			c.Close() // nothing was sent
		}
	}
}

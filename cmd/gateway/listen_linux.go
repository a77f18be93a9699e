package main

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sendBuffer is SO_SNDBUF, which the kernel doubles for its own needs
	// (https://man7.org/linux/man-pages/man7/socket.7.html). Left alone it grows
	// to megabytes (tcp_wmem), so that a client which reads nothing is not
	// noticed before all that is full. The price is the speed of one stream over
	// a long way: about 150 KB/s at 100 ms, more than a person reads.
	sendBuffer = 16 << 10
	// userTimeout is TCP_USER_TIMEOUT: for how long what was written may stay
	// unacknowledged, or the peer's window closed, before the connection is
	// given up (https://man7.org/linux/man-pages/man7/tcp.7.html). Left alone
	// that takes a quarter of an hour, also for what a closed stream left behind.
	userTimeout = 90 * time.Second
)

// boundSocket sets the options on the listening socket; those that it accepts
// inherit them.
func boundSocket(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer); err != nil {
			err = fmt.Errorf("set SO_SNDBUF: %w", err)
			return
		}
		if err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds())); err != nil {
			err = fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
		}
	}); e != nil {
		return e
	}
	return err
}

package store

import (
	"syscall"
	"time"
)

// nap waits for less than a millisecond. The runtime's timers wait in whole
// milliseconds while nothing else runs, because that is what epoll_wait takes.
func nap(d time.Duration) {
	if d <= 0 {
		return
	}
	pause := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&pause, nil) // a signal may end it early
}

//go:build !linux

package store

import "time"

// nap waits for less than a millisecond, or a little longer.
func nap(d time.Duration) { time.Sleep(d) }

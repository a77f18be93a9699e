//go:build unix

package main

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// filesBeside is what the process opens besides its streams: listeners,
// connections to Postgres, files.
const filesBeside = 100

// warnOpenFiles compares the open-file limit, which Go raises to the hard
// limit at start, with the streams that are allowed: past it, accept fails.
func warnOpenFiles(c config, logger *slog.Logger) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return
	}
	if limit.Cur < uint64(c.MaxStreams+filesBeside) {
		logger.Warn("the open-file limit is below GATEWAY_MAX_STREAMS", "open_files", limit.Cur, "max_streams", c.MaxStreams)
	}
}

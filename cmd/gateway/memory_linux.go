package main

import (
	"bufio"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// What a memory limit has to bear, the kernel's sockets included, which count
// for it. deploy/README.md has the measurement.
const (
	memoryBase      = 32 << 20 // bytes of a process without streams, and for a storm of reconnects whose rows are large
	memoryPerStream = 8 << 10  // bytes for each stream: 4 KB idle, and room for those that are slow or come back
)

// warnMemory compares the memory limit of the control group with the streams
// that are allowed: past it, the kernel kills the process with all its streams.
func warnMemory(c config, limit int64, logger *slog.Logger) {
	bears := max(0, limit-memoryBase) / memoryPerStream
	if bears < int64(c.MaxStreams) {
		logger.Warn("the memory limit is below GATEWAY_MAX_STREAMS", "memory_limit", limit, "max_streams", c.MaxStreams, "limit_bears_streams", bears)
	}
}

func processMemoryLimit() int64 { return memoryLimit(os.DirFS("/")) }

// memoryLimit is the lowest memory limit of this process's control group and
// of those around it, in bytes, in the file system of root. Both versions of
// control groups are looked at
// (https://man7.org/linux/man-pages/man7/cgroups.7.html).
func memoryLimit(root fs.FS) int64 {
	limit := int64(math.MaxInt64)
	f, err := root.Open("proc/self/cgroup")
	if err != nil {
		return limit
	}
	defer f.Close() // it was only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// hierarchy-ID:controllers:path; version 2 has no controllers here.
		parts := strings.SplitN(lines.Text(), ":", 3)
		if len(parts) != 3 {
			continue
		}
		folder, file := "sys/fs/cgroup", "memory.max"
		if parts[1] != "" {
			if !strings.Contains(","+parts[1]+",", ",memory,") {
				continue
			}
			folder, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		// A container may see its own group as the root of the hierarchy and
		// still be told the host's path; that path does not exist here.
		for group := filepath.Join("/", parts[2]); ; group = filepath.Dir(group) {
			limit = min(limit, readLimit(root, filepath.Join(folder, group, file)))
			if group == "/" {
				break
			}
		}
	}
	return limit
}

// readLimit reads a limit. A file that is not there, and the word max, are
// no limit.
func readLimit(root fs.FS, name string) int64 {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return math.MaxInt64
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return n
}

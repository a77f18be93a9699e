// Package proc reads what Linux says of processes under /proc: CPU time, memory
// and limits.
package proc

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the unit of times in /proc: USER_HZ is 100 on every system that
// Go runs on, see proc(5).
const clockTick = 10 * time.Millisecond

// CPU is the time that a process has run, in user and kernel mode.
func CPU(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read a process's times: %w", err)
	}
	// The name, in parentheses, may hold anything; utime and stime are the
	// 12th and 13th field behind it.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("read a process's times: %d fields", len(fields))
	}
	var sum int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read a process's times: %w", err)
		}
		sum += n
	}
	return time.Duration(sum) * clockTick, nil
}

// Memory returns a field of /proc/PID/status that is given in kB, in bytes: VmRSS
// or VmHWM, its peak.
func Memory(pid int, field string) (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/status", pid), field)
}

// KernelMemory is what the kernel's own objects take, sockets among them: what
// cannot be reclaimed, the sockets' inodes and one directory entry for each.
// The caches of files, which come and go with whatever else this machine does,
// are left out where /proc/slabinfo may be read.
func KernelMemory() (int64, error) {
	inodes, size, err := slabObjects("sock_inode_cache")
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		return kilobytes("/proc/meminfo", "Slab")
	}
	if err != nil {
		return 0, err
	}
	_, entry, err := slabObjects("dentry")
	if err != nil {
		return 0, err
	}
	fixed, err := kilobytes("/proc/meminfo", "SUnreclaim")
	return fixed + inodes*(size+entry), err
}

// slabObjects reads a line of /proc/slabinfo: how many objects there are, and
// how large one is. See slabinfo(5).
func slabObjects(name string) (objects, size int64, err error) {
	text, err := os.ReadFile("/proc/slabinfo")
	if err != nil {
		return 0, 0, fmt.Errorf("read the slabs: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name+" "); found {
			var active int64
			if _, err := fmt.Sscan(rest, &active, &objects, &size); err != nil {
				return 0, 0, fmt.Errorf("read the slabs: %w", err)
			}
			return objects, size, nil
		}
	}
	return 0, 0, fmt.Errorf("read the slabs: there is no %s", name)
}

// kilobytes reads a line "field: number kB", in bytes.
func kilobytes(path, field string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", field, err)
	}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		if words := strings.Fields(rest); name == field && len(words) > 0 {
			n, err := strconv.ParseInt(words[0], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read %s: %w", field, err)
			}
			return n << 10, nil
		}
	}
	return 0, fmt.Errorf("read %s: %s does not have it", field, path)
}

// OpenFileLimit is this process's, which Go raises to the hard limit at start.
func OpenFileLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt32
	}
	return int(min(limit.Cur, math.MaxInt32))
}

// ResetPeak makes VmHWM begin anew, see proc(5) on clear_refs.
func ResetPeak(pid int) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return fmt.Errorf("reset the peak of memory: %w", err)
	}
	return nil
}

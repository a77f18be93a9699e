package main

import (
	"bytes"
	"math"
	"testing"
	"testing/fstest"
)

// The kernel kills a process that passes the limit of its control group. It
// must be found with both versions, inside containers and outside, in the group
// itself and in those around it.
func TestMemoryLimit(t *testing.T) {
	const none = math.MaxInt64
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"no control groups": {map[string]string{}, none},
		"version 2, in a container": {map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "67108864\n",
		}, 64 << 20},
		"version 2, a unit": {map[string]string{
			"proc/self/cgroup":                                      "0::/system.slice/gateway.service\n",
			"sys/fs/cgroup/system.slice/memory.max":                 "max\n",
			"sys/fs/cgroup/system.slice/gateway.service/memory.max": "1073741824\n",
		}, 1 << 30},
		"version 2, the slice has less": {map[string]string{
			"proc/self/cgroup":                           "0::/a.slice/b.service\n",
			"sys/fs/cgroup/a.slice/memory.max":           "1000000\n",
			"sys/fs/cgroup/a.slice/b.service/memory.max": "2000000\n",
		}, 1000000},
		"version 1, a container that is told the host's path": {map[string]string{
			"proc/self/cgroup":                           "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/docker/1\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "67108864\n",
		}, 64 << 20},
		"version 1, several controllers": {map[string]string{
			"proc/self/cgroup": "4:hugetlb,memory:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":   "9223372036854771712\n",
		}, 1000},
		"nonsense": {map[string]string{"proc/self/cgroup": "nonsense\n0::\n", "sys/fs/cgroup/memory.max": "nonsense\n"}, none},
	} {
		root := fstest.MapFS{}
		for file, text := range c.files {
			root[file] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := memoryLimit(root); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// A limit below what the streams may take must be told at the start, with how
// many it bears; one that is high enough, and none at all, must not.
func TestMemoryLimitIsTold(t *testing.T) {
	const streams = 10000
	enough := int64(memoryBase + streams*memoryPerStream)
	for limit, told := range map[int64]bool{math.MaxInt64: false, enough: false, enough - 1: true, 1 << 20: true} {
		var log bytes.Buffer
		c := config{MaxStreams: streams, LogFormat: "json", LogLevel: "info"}
		warnMemory(c, limit, newLogger(c, &log))
		if got := log.Len() > 0; got != told {
			t.Errorf("%d bytes: it says %q", limit, &log)
		}
	}
}

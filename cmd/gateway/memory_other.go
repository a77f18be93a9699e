//go:build !linux

package main

import (
	"log/slog"
	"math"
)

func processMemoryLimit() int64 { return math.MaxInt64 }

func warnMemory(config, int64, *slog.Logger) {}

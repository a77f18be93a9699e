//go:build !unix

package main

import (
	"log/slog"
	"math"
	"net"
	"net/http"
)

func openFileLimit() uint64 { return math.MaxUint64 }

func warnOpenFiles(config, *slog.Logger) {}

func keepFiles(uint64) func(net.Conn, http.ConnState) { return nil }

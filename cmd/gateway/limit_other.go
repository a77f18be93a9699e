//go:build !unix

package main

import "log/slog"

func warnOpenFiles(config, *slog.Logger) {}

package main

import (
	"errors"
	"io"
	"log/slog"
	"strings"
)

func newLogger(c config, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // validated
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: withoutData}
	if c.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// withoutData takes the message of a Postgres error out of the log where it
// quotes what was read: a notification's text, or a subject. Its SQLSTATE stays.
func withoutData(_ []string, a slog.Attr) slog.Attr {
	err, ok := a.Value.Any().(error)
	var stated interface {
		error
		SQLState() string
	}
	if !ok || !errors.As(err, &stated) || aboutTheServer(stated.SQLState()) {
		return a
	}
	return slog.String(a.Key, strings.ReplaceAll(err.Error(), stated.Error(), "SQLSTATE "+stated.SQLState()))
}

// aboutTheServer reports whether a SQLSTATE's class is one whose messages name
// objects, roles and states of the server, never a row's values
// (https://www.postgresql.org/docs/current/errcodes-appendix.html).
func aboutTheServer(state string) bool {
	switch state[:min(2, len(state))] {
	case "08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58":
		return true
	}
	return false
}

package gateway

import (
	"log/slog"
	"sync"
	"time"
)

// rateLimitedLog writes at most one error a second, and with it how many were
// left out since the one before: thousands may come at once when Postgres is
// away.
type rateLimitedLog struct {
	logger *slog.Logger

	mu      sync.Mutex
	last    time.Time // when the last error was written; guarded by mu
	leftOut int       // errors since then; guarded by mu
}

func (l *rateLimitedLog) error(message string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.last) < time.Second {
		l.leftOut++
		return
	}
	if l.leftOut > 0 {
		args = append(args, "left_out", l.leftOut)
	}
	l.last, l.leftOut = now, 0
	l.logger.Error(message, args...)
}

//go:build !linux

package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
)

// lot is not there on this system: every stream has the portable transport.
type lot struct{}

func newLot(int, *slog.Logger, func(*event, int, error), func(net.Conn)) (*lot, error) {
	return nil, nil
}

func (l *lot) transport() transport          { panic("no lot") }
func (l *lot) run(ctx context.Context) error { return errors.New("no lot") }
func (l *lot) flushed(context.Context)       {}

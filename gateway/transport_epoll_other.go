//go:build !linux

package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
)

// poller does not exist on this system: every stream leaves through net/http.
type poller struct{}

func newPoller(int, *slog.Logger, func(*event, int, error), func(net.Conn)) (*poller, error) {
	return nil, nil
}

func (p *poller) transport(bool) transport      { panic("no poller") }
func (p *poller) run(ctx context.Context) error { return errors.New("no poller") }
func (p *poller) flush(context.Context)         {}

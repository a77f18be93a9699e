package main

import (
	"context"
	"net"
	"time"
)

// listen opens the public listener. Its sockets are for streams that mostly
// wait: what they may hold is bounded, and a peer that has vanished is noticed.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	lc := net.ListenConfig{
		Control: boundSocket,
		// Only finds what is silent on purpose, such as a proxy's spare
		// connection: a stream's ping comes sooner.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 10 * time.Second, Count: 3},
	}
	lc.SetMultipathTCP(false) // which does not take all of the options
	return lc.Listen(ctx, "tcp", addr)
}

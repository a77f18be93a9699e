package main

import (
	"bytes"
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
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return tolerantListener{listener}, nil
}

// tolerantListener accepts connections that may begin with empty lines, which a
// server should ignore (RFC 9112 section 2.2). net/http does so after a POST only.
type tolerantListener struct{ net.Listener }

func (l tolerantListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		return &tolerantConn{TCPConn: tcp}, err
	}
	return c, err
}

// tolerantConn is owned by the goroutine that reads.
type tolerantConn struct {
	*net.TCPConn
	begun bool // a byte of the request has come
}

func (c *tolerantConn) Read(b []byte) (int, error) {
	for {
		n, err := c.TCPConn.Read(b)
		if c.begun || n == 0 {
			return n, err
		}
		if rest := bytes.TrimLeft(b[:n], "\r\n"); len(rest) > 0 || err != nil {
			c.begun = true
			return copy(b, rest), err
		}
	}
}

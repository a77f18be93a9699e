package main

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// path is the network between the gateway and Postgres: it counts, delays and
// refuses connections.
type path struct {
	target   string
	listener net.Listener
	made     atomic.Int64 // connections
	delay    atomic.Int64 // ns, of everything that Postgres says

	mu   sync.Mutex
	open map[net.Conn]struct{} // guarded by mu
}

func newPath(t *testing.T, target string) *path {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &path{target: target, listener: l, open: map[net.Conn]struct{}{}}
	go p.serve(l)
	t.Cleanup(p.refuse)
	return p
}

func (p *path) serve(l net.Listener) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		p.made.Add(1)
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.open[in], p.open[out] = struct{}{}, struct{}{}
		p.mu.Unlock()
		go p.carry(out, in, func() {})
		go p.carry(in, out, p.wait)
	}
}

// wait takes as long as the delay, or what it has become meanwhile.
func (p *path) wait() {
	for began := time.Now(); time.Since(began) < time.Duration(p.delay.Load()); {
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *path) carry(to, from net.Conn, wait func()) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		wait()
		if _, e := to.Write(b[:n]); err != nil || e != nil {
			to.Close()
			from.Close()
			p.mu.Lock()
			delete(p.open, to)
			delete(p.open, from)
			p.mu.Unlock()
			return
		}
	}
}

// refuse cuts every connection and lets none be made.
func (p *path) refuse() {
	p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.Close()
	}
}

// accept takes refuse back, at the same address.
func (p *path) accept(t *testing.T) {
	l, err := net.Listen("tcp", p.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p.listener = l
	go p.serve(l)
}

package store_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// relay accepts connections, makes one to target for each, and leaves the two
// to carry, which must not block. It returns its address.
func relay(t *testing.T, target string, carry func(in, out net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			t.Cleanup(func() { in.Close(); out.Close() })
			carry(in, out)
		}
	}()
	return l.Addr().String()
}

// late carries connections to target and takes its time with every answer.
func late(t *testing.T, target string, delay time.Duration) (address string) {
	t.Helper()
	return relay(t, target, func(in, out net.Conn) {
		go func() { defer out.Close(); io.Copy(out, in) }()
		go func() {
			defer in.Close()
			b := make([]byte, 32<<10)
			for {
				n, err := out.Read(b)
				time.Sleep(delay)
				if _, e := in.Write(b[:n]); err != nil || e != nil {
					return
				}
			}
		}()
	})
}

// frozen is a network path that stops carrying anything, without a word to
// either end, as a firewall does that forgot a connection.
type frozen struct {
	address string

	mu      sync.Mutex
	stopped []chan struct{} // one for each connection; closed when it carries no more; guarded by mu
}

func newFrozen(t *testing.T, target string) *frozen {
	t.Helper()
	f := &frozen{}
	f.address = relay(t, target, func(in, out net.Conn) {
		stop := make(chan struct{})
		f.mu.Lock()
		f.stopped = append(f.stopped, stop)
		f.mu.Unlock()
		go swallow(out, in, stop)
		go swallow(in, out, stop)
	})
	return f
}

// swallow carries until stop; what comes after it is read and goes nowhere.
func swallow(to io.WriteCloser, from io.Reader, stop <-chan struct{}) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		select {
		case <-stop:
			n = 0
		default:
		}
		if n > 0 {
			to.Write(b[:n])
		}
		if err != nil {
			select {
			case <-stop: // the other end hears nothing of this either
			default:
				to.Close()
			}
			return
		}
	}
}

// freeze silences the connections that are open now; new ones are carried.
func (f *frozen) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, stop := range f.stopped {
		close(stop)
	}
	f.stopped = nil
}

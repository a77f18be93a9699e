package swarm

import (
	"net"
	"testing"
)

// More than some thousand connections from one source address take the kernel
// seconds of looking for a free port, which would be taken for the server's.
func TestClientsUseSeveralSources(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal(listener.Addr())
	}
	for first, want := range map[int]string{0: "127.0.0.2", streamsPerSource: "127.0.0.3", 300 * streamsPerSource: "127.0.1.46"} {
		// As a resolver gives it, which may be IPv4 in IPv6.
		mapped := (&net.TCPAddr{IP: address.IP.To16(), Port: address.Port}).AddrPort().String()
		c, err := newEpollClients(task{Address: mapped, InFlight: 1, First: first})
		if err != nil {
			t.Fatal(err)
		}
		c.do(task{Do: taskOpen, Streams: 1})
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
		if err != nil || host != want {
			t.Errorf("stream %d came from %s, %v; want %s", first, host, err, want)
		}
		conn.Close()
		c.close()
	}
}

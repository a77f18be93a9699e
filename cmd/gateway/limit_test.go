//go:build unix

package main

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// Clients that take every file would also take those with which the process
// reconnects to Postgres: then nothing gets through even after they are gone.
func TestConnectionsLeaveFilesOver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for limit, open := range map[uint64]bool{openFileLimit(): true, filesBeside: false} {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		keepFiles(limit)(tls.Server(server, nil), http.StateNew)
		client.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := client.Read(make([]byte, 1)); (err == io.EOF) == open {
			t.Errorf("with %d files: %v, want open: %t", limit, err, open)
		}
	}
}

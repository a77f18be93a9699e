package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
)

// errNoPair never reaches a client: a pair is there before the listener is.
var errNoPair = errors.New("no certificate yet")

// watchTLS serves a certificate from two files, which a reloader watches, so
// that a renewal needs no restart. While the new pair cannot be used, the old
// one goes on being served.
func watchTLS(certFile, keyFile string) (*tls.Config, *watched, error) {
	var current atomic.Pointer[tls.Certificate]
	w := &watched{
		variable: "GATEWAY_TLS_CERT, GATEWAY_TLS_KEY", paths: []string{certFile, keyFile},
		take: func(contents [][]byte) error {
			pair, err := tls.X509KeyPair(contents[0], contents[1])
			if err != nil {
				return fmt.Errorf("read the key pair: %w", err)
			}
			current.Store(&pair)
			return nil
		},
	}
	if _, _, err := w.reread(false); err != nil {
		return nil, nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if pair := current.Load(); pair != nil {
				return pair, nil
			}
			return nil, errNoPair
		},
	}, w, nil
}

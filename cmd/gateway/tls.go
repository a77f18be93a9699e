package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// reloadingTLS serves a certificate from two files and reads them again when
// either has changed, so that a renewal needs no restart. While the new pair
// cannot be read, the old one goes on being served.
func reloadingTLS(certFile, keyFile string) (*tls.Config, error) {
	p := &keyPair{certFile: certFile, keyFile: keyFile}
	if _, err := p.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: p.get}, nil
}

type keyPair struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate // guarded by mu
	stamp   [2]time.Time     // modification times of current's files; guarded by mu
}

func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	var stamp [2]time.Time
	for i, name := range []string{p.certFile, p.keyFile} {
		if info, err := os.Stat(name); err == nil {
			stamp[i] = info.ModTime()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && stamp == p.stamp {
		return p.current, nil
	}
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		if p.current != nil {
			return p.current, nil
		}
		return nil, fmt.Errorf("read the key pair: %w", err)
	}
	p.current, p.stamp = &pair, stamp
	return p.current, nil
}

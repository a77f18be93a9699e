package throwaway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	embedded "github.com/fergusstrange/embedded-postgres"
)

// download fetches Postgres's binaries once, keeps them in the user's cache,
// and runs them.
func download(context.Context) (*Server, error) {
	if os.Geteuid() == 0 {
		return nil, fmt.Errorf("a downloaded Postgres does not run as root: %w", errNotHere)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("find the cache directory: %w", err)
	}
	dir, err := os.MkdirTemp("", "notification-gateway-postgres-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	server := embedded.NewDatabase(embedded.DefaultConfig().
		Port(uint32(port)).Database("postgres").Username("postgres").Password("postgres").
		CachePath(filepath.Join(cache, "notification-gateway")).
		RuntimePath(filepath.Join(dir, "run")).DataPath(filepath.Join(dir, "data")).
		StartParameters(map[string]string{
			"listen_addresses": "127.0.0.1", "fsync": "off", "max_connections": "200", "max_prepared_transactions": "20",
		}).
		Logger(io.Discard))
	if err := server.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("download and start: %w", err), os.RemoveAll(dir))
	}
	return &Server{
		URL:    fmt.Sprintf("postgres://postgres:postgres@127.0.0.1:%d/postgres?sslmode=disable", port),
		Source: "downloaded",
		stop:   func() error { return errors.Join(server.Stop(), os.RemoveAll(dir)) },
	}, nil
}

package throwaway

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
	"github.com/testcontainers/testcontainers-go/wait"
)

// image is what the container runs unless NOTIFICATION_GATEWAY_POSTGRES_IMAGE
// names another.
const image = "postgres:17-alpine"

// container runs Postgres in a container, when a Docker engine answers.
func container(ctx context.Context) (s *Server, err error) {
	// Looking for the engine panics where there is none.
	defer func() {
		if r := recover(); r != nil {
			s, err = nil, fmt.Errorf("no Docker engine answers: %w", errNotHere)
		}
	}()
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return nil, fmt.Errorf("no Docker engine answers: %w", errNotHere)
	}
	defer provider.Close()
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := provider.Health(asking); err != nil {
		return nil, fmt.Errorf("no Docker engine answers: %w", errNotHere)
	}
	name := image
	if other := os.Getenv("NOTIFICATION_GATEWAY_POSTGRES_IMAGE"); other != "" {
		name = other
	}
	c, err := postgres.Run(ctx, name,
		postgres.WithDatabase("postgres"), postgres.WithUsername("postgres"), postgres.WithPassword("postgres"),
		testcontainers.WithCmdArgs("-c", "fsync=off", "-c", "max_connections=200", "-c", "max_prepared_transactions=20"),
		// The image starts the server twice: once to set it up.
		testcontainers.WithWaitStrategy(wait.ForLog("database system is ready to accept connections").
			WithOccurrence(2).WithStartupTimeout(2*time.Minute)),
	)
	stop := func() error {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopDeadline)
		defer cancel()
		return testcontainers.TerminateContainer(c, testcontainers.StopContext(ending))
	}
	if err != nil {
		if c != nil {
			_ = stop() // the first error is the one to show
		}
		return nil, fmt.Errorf("run %s: %w", name, err)
	}
	address, err := c.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		_ = stop() // the first error is the one to show
		return nil, fmt.Errorf("ask for the container's address: %w", err)
	}
	return &Server{URL: address, Source: "container, from " + name, stop: stop}, nil
}

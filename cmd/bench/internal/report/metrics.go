package report

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
)

// metrics reads a gateway's measurements, by name with labels, without their
// common prefix.
func (g *gateway) metrics(ctx context.Context) (map[string]float64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Admin+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("read the metrics: %w", err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("read the metrics: %w", err)
	}
	defer resp.Body.Close() // it was only read
	out := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, found := strings.Cut(lines.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); found && err == nil && !strings.HasPrefix(name, "#") {
			out[strings.TrimPrefix(name, "notification_gateway_")] = number
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the metrics: %w", err)
	}
	return out, nil
}

// collect has the gateway's Go runtime collect garbage, which it would do by
// itself within two minutes.
func (g *gateway) collect(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Admin+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	return resp.Body.Close()
}

// until waits for the measurements to be as done says.
func (g *gateway) until(ctx context.Context, done func(map[string]float64) bool) error {
	ctx, cancel := context.WithTimeout(ctx, swarm.StallTimeout)
	defer cancel()
	for {
		m, err := g.metrics(ctx)
		if err != nil {
			return err
		}
		if done(m) {
			return nil
		}
		select {
		case <-time.After(swarm.PollInterval):
		case <-ctx.Done():
			return fmt.Errorf("the gateway does not come so far: %w", context.Cause(ctx))
		}
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

const (
	pgbenchUsers = 100 // recipients, at random: one for all would make its row the bottleneck
	pgbenchSQL   = `\set user random(1, %d)
INSERT INTO notifications (user_id, notification_type, title, message) VALUES (:user, 'bench', 'row', 'm');
`
)

// errNoPgbench is returned where pgbench is not installed.
var errNoPgbench = errors.New("pgbench is not installed (it comes with Postgres; on Debian, package postgresql)")

// pgbench inserts single rows with several connections as fast as they can, and
// returns rows a second. It costs less than writers of our own, which would take
// the CPU that they are to measure
// (https://www.postgresql.org/docs/current/pgbench.html). The first of its three
// seconds is not counted: sessions are cold, and a gateway that sleeps is yet to
// find out that it is busy.
func pgbench(ctx context.Context, url string, writers int) (rate float64, err error) {
	path, err := exec.LookPath("pgbench")
	if err != nil {
		return 0, errNoPgbench
	}
	script, err := os.CreateTemp("", "insert-*.sql")
	if err != nil {
		return 0, fmt.Errorf("write the script: %w", err)
	}
	defer os.Remove(script.Name())
	_, err = fmt.Fprintf(script, pgbenchSQL, pgbenchUsers)
	if err = errors.Join(err, script.Close()); err != nil {
		return 0, fmt.Errorf("write the script: %w", err)
	}
	cmd := exec.CommandContext(ctx, path, "--no-vacuum", "--protocol=prepared", "--client="+strconv.Itoa(writers),
		"--jobs="+strconv.Itoa(min(writers, 2)), "--time=3", "--progress=1", "--file="+script.Name(), url)
	var progress bytes.Buffer
	cmd.Stderr = &progress
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, lastLineOf(progress.String()))
	}
	return pgbenchRate(progress.String())
}

// pgbenchRate is the mean of all lines of progress but the first.
func pgbenchRate(progress string) (float64, error) {
	var sum float64
	lines := regexp.MustCompile(`progress: [0-9.]+ s, ([0-9.]+) tps`).FindAllStringSubmatch(progress, -1)
	for _, line := range lines[min(1, len(lines)):] {
		rate, err := strconv.ParseFloat(line[1], 64)
		if err != nil {
			return 0, fmt.Errorf("pgbench's rate: %w", err)
		}
		sum += rate
	}
	if sum == 0 {
		return 0, fmt.Errorf("pgbench says no rate: %s", lastLineOf(progress))
	}
	return sum / float64(len(lines)-1), nil
}

func lastLineOf(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

package report

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// probeMark is the text in a row by which a probe knows it, before its number.
const probeMark = "bench-probe-"

// maxLine is the most bytes of a line: the gateway sends notifications of up to
// 4 MiB.
const maxLine = 8 << 20

// probe is one stream that a goroutine reads, to see when single rows arrive.
type probe struct {
	body    io.Closer
	reading sync.WaitGroup

	mu      sync.Mutex
	at      map[int]time.Time // when each row was read; guarded by mu
	ended   error             // why reading has ended; guarded by mu
	changed chan struct{}     // closed and replaced at each row; guarded by mu
}

func openProbe(ctx context.Context, t swarm.Target, token string) (*probe, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("open a probe: %w", err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer "+token)
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,                                        // one stream, one connection
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: t.Insecure}, // the operator asked for it
	}}
	resp, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("open a probe: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close() // only the status counts
		return nil, fmt.Errorf("open a probe: status %d", resp.StatusCode)
	}
	p := &probe{body: resp.Body, at: map[int]time.Time{}, changed: make(chan struct{})}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	p.reading.Go(func() { p.read(lines) })
	return p, nil
}

func (p *probe) read(lines *bufio.Scanner) {
	for lines.Scan() {
		now := time.Now()
		_, rest, found := bytes.Cut(lines.Bytes(), []byte(probeMark))
		if !found {
			continue
		}
		end := bytes.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if n, err := strconv.Atoi(string(rest[:max(0, end)])); err == nil {
			p.note(func() { p.at[n] = now })
		}
	}
	err := lines.Err()
	if err == nil {
		err = io.EOF
	}
	p.note(func() { p.ended = err })
}

func (p *probe) note(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait returns when rows were read, once all of n have been.
func (p *probe) wait(ctx context.Context, n int) (map[int]time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, swarm.StallTimeout)
	defer cancel()
	for {
		p.mu.Lock()
		known, ended, changed := len(p.at), p.ended, p.changed
		p.mu.Unlock()
		switch {
		case known >= n:
			return p.at, nil // nothing is added any more
		case ended != nil:
			return nil, fmt.Errorf("a probe has read %d of %d rows: %w", known, n, ended)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("a probe has read %d of %d rows: %w", known, n, context.Cause(ctx))
		}
	}
}

func (p *probe) close() {
	p.body.Close() // it ends the reading
	p.reading.Wait()
}

// probes are one stream each of users that follow one another. Many rows for
// one user alone would overflow what may wait for his stream.
type probes []*probe

func openProbes(ctx context.Context, t swarm.Target, tokens []string) (probes, error) {
	var all probes
	for _, token := range tokens {
		p, err := openProbe(ctx, t, token)
		if err != nil {
			all.close()
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func (all probes) close() {
	for _, p := range all {
		p.close()
	}
}

// probeSQL inserts the rows $2 to $3, for $4 users from $1 on in turn.
const probeSQL = `INSERT INTO notifications (user_id, notification_type, title, message)
SELECT $1::bigint + i % $4::integer, 'bench', '` + probeMark + `' || i, 'probe' FROM generate_series($2::integer, $3::integer) i`

// latency inserts rows for the probes' users, of whom first is the first, burst
// of them in a transaction, and returns how long after the acknowledgement of
// its COMMIT, and how long after its INSERT was sent, each was read.
func (all probes) latency(ctx context.Context, db *throwaway.DB, first, rows, burst int, rate float64) (acknowledged, sent lags, err error) {
	sentAt, committedAt := make([]time.Time, rows), make([]time.Time, rows)
	err = paced(ctx, rows, burst, rate, func(from, n int) error {
		before := time.Now()
		if err := db.Exec(ctx, probeSQL, first, from, from+n-1, len(all)); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		after := time.Now()
		for i := from; i < from+n; i++ {
			sentAt[i], committedAt[i] = before, after
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for k, p := range all {
		read, err := p.wait(ctx, (rows+len(all)-1-k)/len(all))
		if err != nil {
			return nil, nil, err
		}
		for i := k; i < rows; i += len(all) { // a row may come before its acknowledgement
			acknowledged = append(acknowledged, max(0, read[i].Sub(committedAt[i])))
			sent = append(sent, read[i].Sub(sentAt[i]))
		}
	}
	slices.Sort(acknowledged)
	slices.Sort(sent)
	return acknowledged, sent, nil
}

// lags are delays in order.
type lags []time.Duration

// at is a percentile.
func (l lags) at(percent int) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[min(len(l)-1, len(l)*percent/100)]
}

func (l lags) String() string {
	return fmt.Sprintf("%s / %s", short(l.at(50)), short(l.at(99)))
}

// short writes a duration with two or three digits.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

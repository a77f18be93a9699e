package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const (
	filesBeside      = 100    // what a process opens besides its streams
	streamsPerMember = 20_000 // past it one thread would be the bottleneck
	inFlight         = 1000   // connections that wait for their answer at once
	look             = 20 * time.Millisecond
	patience         = 60 * time.Second
)

// crew is a crowd spread over as many processes as the open-file limit asks
// for. Whoever started it stops it. It is for one goroutine.
type crew struct {
	members  []*member
	share    int // streams of one member
	opened   int
	patience time.Duration // without anything new, until wait gives up
}

type member struct {
	*child
	tasks   *json.Encoder
	answers *json.Decoder
}

// child is a process of this program with another command.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	exited <-chan struct{}
}

// startChild starts this program again; its input's end is its end.
func startChild(command string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	c := &child{cmd: exec.Command(self, command)}
	c.cmd.Stderr = os.Stderr
	c.cmd.Env = append(os.Environ(), childVariable+"=1")
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	if c.exited, err = throwaway.StartTied(c.cmd); err != nil {
		return nil, fmt.Errorf("start bench %s: %w", command, err)
	}
	return c, nil
}

// childVariable tells a test binary that it stands in for this program.
const childVariable = "NOTIFICATION_GATEWAY_BENCH_CHILD"

func (c *child) stop() {
	c.in.Close() // its end is the signal
	<-c.exited
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// target is the address that streams are opened at.
type target struct {
	url      *url.URL // with a port
	counted  string   // the event type that is a notification
	insecure bool     // any certificate will do
}

// startCrew starts what at most streams need. They are opened by open.
func startCrew(t target, streams, inFlight int) (*crew, error) {
	a, err := net.ResolveTCPAddr("tcp", t.url.Host)
	if err != nil {
		return nil, fmt.Errorf("look the address up: %w", err)
	}
	most := min(streamsPerMember, openFileLimit()-filesBeside)
	if most < 1 {
		return nil, errors.New("the open-file limit leaves no stream")
	}
	processes := max(1, (streams+most-1)/most)
	c := &crew{share: (streams + processes - 1) / processes, patience: patience}
	for i := range processes {
		started, err := startChild("crowd")
		if err != nil {
			c.stop()
			return nil, err
		}
		m := &member{child: started, tasks: json.NewEncoder(started.in), answers: json.NewDecoder(started.out)}
		c.members = append(c.members, m)
		if err := m.tasks.Encode(crowdTask{
			Do: crowdBegin, Address: a.AddrPort().String(), Host: t.url.Host, Path: t.url.RequestURI(), Counted: t.counted,
			TLS: t.url.Scheme == "https", Insecure: t.insecure,
			InFlight: max(1, inFlight/processes), First: i * c.share,
		}); err != nil {
			c.stop()
			return nil, fmt.Errorf("start a crowd: %w", err)
		}
	}
	return c, nil
}

// open begins to open n more streams, which wait finishes.
func (c *crew) open(n int, tokens []string, silent bool) error {
	for i, m := range c.members {
		room := min(n, max(0, (i+1)*c.share-c.opened))
		if _, err := m.do(crowdTask{Do: crowdOpen, Streams: room, Tokens: tokens, Silent: silent}); err != nil {
			return err
		}
		c.opened += room
		n -= room
	}
	return nil
}

// drop cuts the first n streams; resume brings them back.
func (c *crew) drop(n int) error {
	for _, m := range c.members {
		answer, err := m.do(crowdTask{Do: crowdDrop, Streams: n})
		if err != nil {
			return err
		}
		n -= answer.Dropped
	}
	return nil
}

// all gives every member the same task and adds their counts up.
func (c *crew) all(t crowdTask) (counts, error) {
	var sum counts
	for _, m := range c.members {
		one, err := m.do(t)
		if err != nil {
			return sum, err
		}
		sum.add(one)
	}
	return sum, nil
}

// wait returns when done says so. Its error is ctx's, or says that the streams
// broke, or that nothing has moved for long.
func (c *crew) wait(ctx context.Context, what string, done func(counts) bool) (counts, error) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	var last counts
	moved := time.Now()
	for {
		now, err := c.all(crowdTask{Do: crowdCount})
		if err != nil {
			return now, err
		}
		if err := now.broken(); err != nil {
			return now, fmt.Errorf("%s: %w", what, err)
		}
		if done(now) {
			return now, nil
		}
		if now.Open != last.Open || now.Events[kindNotification] != last.Events[kindNotification] {
			last, moved = now, time.Now()
		}
		if time.Since(moved) > c.patience {
			return now, fmt.Errorf("%s: nothing has come for %s; %d of %d streams are open, %d notifications came",
				what, c.patience, now.Open, now.Wanted, now.Events[kindNotification])
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return now, context.Cause(ctx)
		}
	}
}

// allOpen is a condition of wait.
func allOpen(c counts) bool { return c.Open == c.Wanted && c.Events[kindConnected] >= c.Opened }

// cpu is what the generator itself has used.
func (c *crew) cpu() time.Duration {
	var sum time.Duration
	for _, m := range c.members {
		used, _ := cpuOf(m.pid()) // one that is gone shows elsewhere
		sum += used
	}
	return sum
}

func (c *crew) stop() {
	for _, m := range c.members {
		m.stop()
	}
}

func (m *member) do(t crowdTask) (counts, error) {
	var answer counts
	if err := m.tasks.Encode(t); err != nil {
		return answer, fmt.Errorf("a crowd's process has ended: %w", err)
	}
	if err := m.answers.Decode(&answer); err != nil {
		return answer, fmt.Errorf("a crowd's process has ended: %w", err)
	}
	return answer, nil
}

package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/proc"
	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
)

// FloorCommand is the hidden command of this program that calls RunFloor.
const FloorCommand = "floor"

// floor is a process that does the least that any server of these streams
// must: one thread holds the sockets and writes the same bytes, knowing
// nothing of HTTP, tokens or Postgres. What it costs is the kernel's part.
type floor struct {
	*swarm.Subprocess
	address string
	answers *json.Decoder
}

// floorTask asks for events to be sent, each to one stream at random, in
// bursts as a batch of rows makes them.
type floorTask struct {
	Events, Burst int
	Bytes         int           // of one event
	Every         time.Duration // from burst to burst
}

// floorAnswer is a line of the floor: first where it listens, then what a task
// came to.
type floorAnswer struct {
	Address string
	Sent    int
	Took    time.Duration
}

func startFloor() (*floor, error) {
	started, err := swarm.StartSubprocess(FloorCommand)
	if err != nil {
		return nil, err
	}
	f := &floor{Subprocess: started, answers: json.NewDecoder(started.Out)}
	var hello floorAnswer
	if err := f.answers.Decode(&hello); err != nil {
		f.Stop()
		return nil, fmt.Errorf("start the floor: %w", err)
	}
	f.address = hello.Address
	return f, nil
}

func (f *floor) target() swarm.Target {
	return swarm.Target{URL: &url.URL{Scheme: "http", Host: f.address, Path: StreamPath}, Counted: "notification"}
}

// send has events sent and returns what one cost in CPU.
func (f *floor) send(t floorTask) (each time.Duration, a floorAnswer, err error) {
	before, err := proc.CPU(f.PID())
	if err != nil {
		return 0, a, err
	}
	if err := json.NewEncoder(f.In).Encode(t); err != nil {
		return 0, a, fmt.Errorf("the floor has ended: %w", err)
	}
	if err := f.answers.Decode(&a); err != nil {
		return 0, a, fmt.Errorf("the floor has ended: %w", err)
	}
	after, err := proc.CPU(f.PID())
	if err == nil && a.Sent != t.Events {
		err = errors.New("the floor's sockets did not take every event")
	}
	return (after - before) / time.Duration(max(1, a.Sent)), a, err
}

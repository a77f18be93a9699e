package swarm

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
)

// WorkerCommand is the hidden command of this program that calls RunWorker.
const WorkerCommand = "worker"

// task is one command to a worker, written as a JSON line. The worker answers
// with Counts at once; what the task began continues.
type task struct {
	Do taskKind

	// For begin: the address, and how to ask.
	Address  string `json:",omitempty"` // IP address and port
	Host     string `json:",omitempty"`
	TLS      bool   `json:",omitempty"`
	Insecure bool   `json:",omitempty"` // any certificate will do
	Path     string `json:",omitempty"` // with the query
	Counted  string `json:",omitempty"` // the event type that is a notification
	InFlight int    `json:",omitempty"` // connections that may wait for a response's head at once
	First    int    `json:",omitempty"` // streams that the workers before this one hold

	// For open: how many more; for drop: how many. Stream i sends the token i
	// modulo the number of tokens.
	Streams int      `json:",omitempty"`
	Silent  bool     `json:",omitempty"` // the streams never read
	Tokens  []string `json:",omitempty"` // also for resume; none: as before
}

type taskKind string

const (
	taskBegin  taskKind = "begin"
	taskOpen   taskKind = "open"   // more streams
	taskDrop   taskKind = "drop"   // cut the first connections with a reset
	taskResume taskKind = "resume" // open the dropped streams again, with their last event IDs
	taskCount  taskKind = "count"
	taskPings  taskKind = "pings" // count, and when pings came
)

// RunWorker holds streams for the process that writes tasks to in, until in
// ends. It answers each task with counts.
func RunWorker(in io.Reader, out io.Writer) error {
	signal.Ignore(syscall.SIGQUIT) // sent when the parent dies; then in ends too
	tasks := json.NewDecoder(bufio.NewReader(in))
	answers := json.NewEncoder(out)
	var begin task
	if err := tasks.Decode(&begin); err != nil || begin.Do != taskBegin {
		return errors.New("is started by the other commands")
	}
	var c clients = newReaders(begin)
	if !begin.TLS {
		var err error
		if c, err = newEpollClients(begin); err != nil {
			return err
		}
	}
	defer c.close()
	for {
		var next task
		if err := tasks.Decode(&next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a task: %w", err)
		}
		if err := answers.Encode(c.do(next)); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// request is what a stream sends.
func (t *task) request(token string, lastID []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n", t.Path, t.Host)
	if token != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", token)
	}
	if len(lastID) > 0 {
		fmt.Fprintf(&b, "Last-Event-ID: %s\r\n", lastID)
	}
	b.WriteString(crlf)
	return b.String()
}

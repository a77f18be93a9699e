package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// crowdTask is one command to a process that holds streams: a JSON line. Each
// is answered with counts at once; what it began goes on.
type crowdTask struct {
	Do crowdDo

	// For begin: whom to ask, and how.
	Address  string `json:",omitempty"` // IP address and port
	Host     string `json:",omitempty"`
	TLS      bool   `json:",omitempty"`
	Insecure bool   `json:",omitempty"` // any certificate will do
	Path     string `json:",omitempty"` // with the query
	Counted  string `json:",omitempty"` // the event type that is a notification
	InFlight int    `json:",omitempty"` // connections that wait for their answer's head at once
	First    int    `json:",omitempty"` // streams of the processes before this one

	// For open: how many more; for drop: how many. Stream i sends the token i
	// modulo their number.
	Streams int      `json:",omitempty"`
	Silent  bool     `json:",omitempty"` // they never read
	Tokens  []string `json:",omitempty"` // also for resume; none: those of before
}

type crowdDo string

const (
	crowdBegin  crowdDo = "begin"
	crowdOpen   crowdDo = "open"   // more streams
	crowdDrop   crowdDo = "drop"   // cut the first connections, without a farewell
	crowdResume crowdDo = "resume" // open what was dropped again, with its last event ID
	crowdCount  crowdDo = "count"
	crowdPings  crowdDo = "pings" // count, and when pings came
)

// counts is what a crowd has seen since it began.
type counts struct {
	Wanted  int // streams that should be open
	Dropped int // streams that should not, until they are resumed
	Open    int // streams that have been answered with 200 and go on
	Opened  int64
	Refused int64 // answered with another status
	Failed  int64 // no connection, or no HTTP
	Ended   int64 // by the server
	Events  tally
	Bytes   int64
	Why     string  `json:",omitempty"` // the first refusal, failure or end
	Pings   []int32 `json:",omitempty"` // by the slot of time in which they came; only when asked for
}

// pingSlots in a second: fine enough to see a burst.
const pingSlots = 20

func (c *counts) add(o counts) {
	c.Wanted += o.Wanted
	c.Dropped += o.Dropped
	c.Open += o.Open
	c.Opened += o.Opened
	c.Refused += o.Refused
	c.Failed += o.Failed
	c.Ended += o.Ended
	c.Bytes += o.Bytes
	for i, n := range o.Events {
		c.Events[i] += n
	}
	if c.Why == "" {
		c.Why = o.Why
	}
	for i, n := range o.Pings {
		if i == len(c.Pings) {
			c.Pings = append(c.Pings, 0)
		}
		c.Pings[i] += n
	}
}

// pinged notes pings that came now.
func (c *counts) pinged(since time.Duration, n int64) {
	if n == 0 {
		return
	}
	slot := int(since * pingSlots / time.Second)
	for len(c.Pings) <= slot {
		c.Pings = append(c.Pings, 0)
	}
	c.Pings[slot] += int32(n)
}

// errNoStream is said of an answer with another content type.
var errNoStream = errors.New("the answer is no event stream")

// broken says what kept a stream from being open, or nil.
func (c *counts) broken() error {
	switch {
	case c.Refused+c.Failed > 0:
		return fmt.Errorf("%d streams refused, %d failed; the first: %s", c.Refused, c.Failed, c.Why)
	case c.Ended > 0:
		return fmt.Errorf("%d streams were ended by the server; the first: %s", c.Ended, c.Why)
	}
	return nil
}

// crowdChild holds streams for another process of this program, which writes
// tasks on its standard input, until that ends.
func crowdChild(ctx context.Context, args []string, stdout, _ io.Writer) error {
	if err := parseFlags(flag.NewFlagSet("crowd", flag.ContinueOnError), "bench crowd (for bench itself)", args, stdout); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGQUIT) // at the parent's death; the input ends too
	tasks := json.NewDecoder(bufio.NewReader(os.Stdin))
	answers := json.NewEncoder(stdout)
	var begin crowdTask
	if err := tasks.Decode(&begin); err != nil || begin.Do != crowdBegin {
		return errors.New("is started by the other commands")
	}
	var c holder = newReaders(begin)
	if !begin.TLS {
		var err error
		if c, err = newCrowd(begin); err != nil {
			return err
		}
	}
	defer c.close()
	for {
		var task crowdTask
		if err := tasks.Decode(&task); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a task: %w", err)
		}
		if err := answers.Encode(c.do(task)); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// request is what a stream sends.
func (t *crowdTask) request(token string, lastID []byte) string {
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

package swarm

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Counts is what streams have seen since they were begun.
type Counts struct {
	Wanted  int // streams that should be open
	Dropped int // streams that were cut and not resumed yet
	Open    int // streams whose response is 200 and has not ended
	Opened  int64
	Refused int64 // answered with another status
	Failed  int64 // no connection, or no HTTP
	Ended   int64 // by the server
	Events  Tally
	Bytes   int64
	Status  int     `json:",omitempty"` // of the first refusal
	Why     string  `json:",omitempty"` // the first refusal, failure or end
	Pings   []int32 `json:",omitempty"` // how many came in each slot of time; only from CountPings
}

// PingSlots is how many slots of time a second has: enough to see a burst.
const PingSlots = 20

func (c *Counts) add(o Counts) {
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
	c.Status = cmp.Or(c.Status, o.Status)
	c.Why = cmp.Or(c.Why, o.Why)
	for i, n := range o.Pings {
		if i == len(c.Pings) {
			c.Pings = append(c.Pings, 0)
		}
		c.Pings[i] += n
	}
}

// pinged counts n pings that came at since.
func (c *Counts) pinged(since time.Duration, n int64) {
	if n == 0 {
		return
	}
	slot := int(since * PingSlots / time.Second)
	for len(c.Pings) <= slot {
		c.Pings = append(c.Pings, 0)
	}
	c.Pings[slot] += int32(n)
}

// errNoStream is the reason for a response with another content type.
var errNoStream = errors.New("the answer is no event stream")

// BrokenError says what kept streams from being open.
type BrokenError struct {
	Status int // of the first refusal; 0 where none was refused
	text   string
}

func (e BrokenError) Error() string { return e.text }

// Broken is a BrokenError, or nil while no stream is missing.
func (c *Counts) Broken() error {
	switch {
	case c.Refused+c.Failed > 0:
		return BrokenError{c.Status, fmt.Sprintf("%d streams refused, %d failed; the first: %s", c.Refused, c.Failed, c.Why)}
	case c.Ended > 0:
		return BrokenError{text: fmt.Sprintf("%d streams were ended by the server; the first: %s", c.Ended, c.Why)}
	}
	return nil
}

package gateway

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// ender is a transport that notes when its stream was ended; the first one to
// be ended takes a while.
type ender struct {
	at    *[]time.Time
	stall time.Duration
}

func (ender) Send(*event) bool              { return true }
func (ender) Stalled() time.Duration        { return 0 }
func (ender) Drained(context.Context) error { return nil }

func (ender) Serve(http.ResponseWriter, *http.Request, func(context.Context), func(bool)) {}

func (e ender) End(*event) {
	*e.at = append(*e.at, time.Now())
	if len(*e.at) == 1 {
		time.Sleep(e.stall)
	}
}

// A drain that counts ticks falls behind when the process stalls, and what is
// left at the end is told all at once.
func TestDrainCatchesUpAfterAStall(t *testing.T) {
	const streams, drain, stall = 100, 10 * time.Second, 4 * time.Second
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.Drain = drain })
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		for i := range streams {
			s := &stream{recipient: store.Recipient{UserKey: strconv.Itoa(i)}, out: ender{&at, stall}}
			if _, err := r.hub.register(s, true, func(*position) []*event { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), drain)
		defer cancel()
		began := time.Now()
		r.Drain(ctx)
		if last := at[streams-1].Sub(began); last > drain*8/10 {
			t.Errorf("the last stream was ended after %v", last)
		}
	})
}

// A stream whose replay waits for Postgres must not outlive the drain.
func TestDrainEndsAReplay(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		start := r.open("5", "").expect("connected", "").id
		r.source.replayed, r.source.given = make(chan struct{}), make(chan struct{})
		c := r.open("5", "&last_event_id="+start)
		c.expect("connected", "")
		eventually(r, "the replay asks", r.source.isAsked)
		r.Drain(t.Context())
		c.expect("error", `"code":"draining"`)
		c.expect("end", "")
		<-r.source.given
	})
}

// A client that leaves in the middle of a replay must not leave its question to
// Postgres behind: those who come back again and again would keep every connection
// busy.
func TestClientThatLeavesEndsItsReplay(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		start := r.open("5", "").expect("connected", "").id
		r.source.replayed, r.source.given = make(chan struct{}), make(chan struct{})
		c := r.open("5", "&last_event_id="+start)
		c.expect("connected", "")
		eventually(r, "the replay asks", r.source.isAsked)
		c.body.Close()
		<-r.source.given
	})
}

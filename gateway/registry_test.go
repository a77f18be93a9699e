package gateway

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// recorder is a connection that takes everything and remembers it.
type recorder struct{ events []string }

func (r *recorder) Send(e *event) bool {
	r.events = append(r.events, string(e.plain()))
	return true
}

func (r *recorder) End(e *event)                { r.Send(e) }
func (*recorder) Stalled() time.Duration        { return 0 }
func (*recorder) Drained(context.Context) error { return nil }

func (*recorder) Serve(http.ResponseWriter, *http.Request, func(context.Context), func(bool)) {}

// member registers a live stream that stands under its user's key and groups.
func (r *rig) member(user string, groups ...string) (*stream, *recorder) {
	r.Helper()
	out := &recorder{}
	s := &stream{recipient: store.Recipient{UserKey: user}, groups: groups, out: out}
	if _, refused := r.hub.register(s, true, func(*position) []*event { return nil }); refused != nil {
		r.Fatal(refused)
	}
	return s, out
}

// A stream that stands under several keys must get what is for each of them,
// nothing else, and a row that was captured under two of them once. Only the last
// row that it gets may carry the position after the batch: a client that breaks
// off before it must get the rest again.
func TestStreamUnderSeveralKeys(t *testing.T) {
	r := setup(t, nil)
	_, one := r.member("5", "group:a", "group:b")
	_, two := r.member("7", "group:b")
	batch := r.source.add("5", "group:a", "6", "group:b", "*", "7", "group:a", "group:b")
	r.source.rows[8] = r.source.rows[7] // the last two are one notification, captured under two keys
	r.source.rows[8].UserKey = "group:b"
	batch.Entries[7].ItemID = batch.Entries[6].ItemID
	before, after := "id: "+r.hub.position.id()+"\n", "id: "+batch.Cursor.String()+"\n"
	r.deliver(batch)
	for name, test := range map[string]struct {
		got  []string
		want []string
	}{
		"groups a and b": {one.events, []string{`{"id":2}`, `{"id":3}`, `{"id":5}`, `{"id":6}`, `{"id":8}`}},
		"group b":        {two.events, []string{`{"id":5}`, `{"id":6}`, `{"id":7}`, `{"id":8}`}},
	} {
		if len(test.got) != len(test.want) {
			t.Fatalf("%s: got %d events, want %d: %q", name, len(test.got), len(test.want), test.got)
		}
		for i, got := range test.got {
			id := before
			if i == len(test.got)-1 {
				id = after
			}
			if !strings.HasPrefix(got, id) || !strings.Contains(got, test.want[i]) {
				t.Errorf("%s: event %d is %q, want %s with %q", name, i, got, test.want[i], id)
			}
		}
	}
}

// A key under which nothing stands any more must not stay: groups come and go.
func TestRegistryForgetsKeys(t *testing.T) {
	r := setup(t, nil)
	one, _ := r.member("5", "group:a")
	two, _ := r.member("7", "group:a")
	r.hub.mu.Lock()
	members := slices.Collect(r.hub.streams.under("group:a"))
	all := slices.Collect(r.hub.streams.under(everybodyKey))
	r.hub.mu.Unlock()
	if len(members) != 2 || len(all) != 2 {
		t.Errorf("%d streams in the group, %d in all, want 2 and 2", len(members), len(all))
	}
	r.hub.end(one, endRevoked)
	r.hub.end(one, endRevoked) // again does nothing
	r.hub.end(two, endRevoked)
	if n := len(r.hub.streams.recipients) + len(r.hub.streams.groups); n != 0 || r.Streams() != 0 {
		t.Errorf("%d keys and %d streams are left", n, r.Streams())
	}
}

// Disconnecting everybody must end each stream once, whatever it stands under.
func TestDisconnectEverybody(t *testing.T) {
	r := setup(t, nil)
	_, one := r.member("5", "group:a")
	_, two := r.member("7")
	r.deliver(store.Batch{Entries: []store.Entry{{UserKey: everybodyKey, Disconnect: "x"}}, Cursor: r.source.cursor(1)})
	for _, out := range []*recorder{one, two} {
		if len(out.events) != 1 || !strings.Contains(out.events[0], `"code":"revoked"`) {
			t.Errorf("got %q", out.events)
		}
	}
}

// Each row was parsed once for each stream with types=, while every request waited
// for the hub's lock: 20 tabs of one user and 5,000 rows kept others waiting for
// three seconds.
func TestTypesAreReadOnceForEachRow(t *testing.T) {
	allocations := func(streams int) float64 {
		r := setup(t, func(c *Config, _ *fakeVerifier) { c.MaxStreamsPerUser = 1000 })
		for range streams {
			s := &stream{recipient: store.Recipient{UserKey: "5"}, types: map[string]bool{"other": true}, out: silent{}}
			if _, refused := r.hub.register(s, true, func(*position) []*event { return nil }); refused != nil {
				t.Fatal(refused)
			}
		}
		batch := r.source.add("5")
		var rows batchRows
		if err := rows.load(t.Context(), r.source, batch.Entries); err != nil {
			t.Fatal(err)
		}
		if missing, done := r.hub.commit(t.Context(), batch, &rows); done || len(missing) > 0 {
			t.Error("rows were delivered before their types were read")
		}
		return testing.AllocsPerRun(50, func() { r.deliver(batch) })
	}
	one, many := allocations(1), allocations(500)
	if many > one+5 {
		t.Errorf("%v allocations for 500 streams, %v for one", many, one)
	}
}

package gateway

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// addFor appends one row under several keys and returns the batch that brings it.
func (f *fakeSource) addFor(item string, keys ...string) store.Batch {
	batch := f.add(keys...)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range batch.Entries {
		row := &f.rows[len(f.rows)-len(keys)+i]
		row.ItemID, row.Data = item, []byte(`{"id":"`+item+`"}`)
		batch.Entries[i].ItemID = item
	}
	return batch
}

// A stream gets the rows of its own key, of the keys that the view gives, of the
// groups that its token names, and everybody's, each row once however many of them
// match; live and by its cursor. Nobody else gets them.
func TestStreamsStandUnderSeveralKeys(t *testing.T) {
	r := setup(t, nil)
	member := url.QueryEscape("5.also.team_sales_all")
	in, out := r.open(member, ""), r.open("7", "")
	id := in.expect(eventConnected, `"user":"5"`).id
	out.expect(eventConnected, "")
	r.deliver(r.source.addFor("own", "5"))
	r.deliver(r.source.addFor("view", "team"))
	r.deliver(r.source.addFor("claim", "group:sales"))
	r.deliver(r.source.addFor("several", "group:all", "5", "group:sales", "*"))
	r.deliver(r.source.addFor("other", "group:support", "sales"))
	r.deliver(r.source.addFor("all", "*"))
	if got := testutil.ToFloat64(r.hub.metrics.groupKeys); got != 3 {
		t.Errorf("%v group keys are measured, want team, group:sales and group:all", got)
	}
	want := []string{"own", "view", "claim", "several", "all"}
	for _, item := range want {
		in.expect(eventNotification, `"`+item+`"`)
	}
	out.expect(eventNotification, `"several"`)
	out.expect(eventNotification, `"all"`)
	back := r.open(member, "&last_event_id="+id)
	back.expect(eventConnected, "")
	for _, item := range want {
		back.expect(eventNotification, `"`+item+`"`)
	}
}

// A token or a view with more keys than a stream may stand under is refused, and
// not served with some of them.
func TestTooManyKeysAreRefused(t *testing.T) {
	r := setup(t, nil)
	var keys []string
	for i := range maxFurtherKeys + 1 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	for n, want := range map[int]int{maxFurtherKeys: 200, maxFurtherKeys + 1: 403} {
		resp, err := r.server.Client().Head(r.server.URL + "/api/notifications/stream/?token=" + url.QueryEscape("5.also."+strings.Join(keys[:n], ".")))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d keys: %d, want %d", n, resp.StatusCode, want)
		}
	}
}

// Somebody who is put into another group must get its rows without signing in
// again: the stream ends so that its client comes back.
func TestStreamsOfChangedGroupsComeAgain(t *testing.T) {
	r := setup(t, nil)
	moved, stays := r.open(url.QueryEscape("5.also.team"), ""), r.open("7", "")
	moved.expect(eventConnected, "")
	stays.expect(eventConnected, "")
	checker := &fakeChecker{moved: []string{"5.also.team"}}
	if err := r.checkRecipients(t.Context(), checker, everybody); err != nil {
		t.Fatal(err)
	}
	if e := moved.expect(eventError, `"unavailable"`); !strings.Contains(e.raw, "retry: ") {
		t.Errorf("the error says not when to come again: %q", e.raw)
	}
	moved.expect("end", "")
	r.deliver(r.source.add("7"))
	stays.expect(eventNotification, "")
}

// Whatever the size of a group, its row is encoded once.
func BenchmarkGroup(b *testing.B) {
	h := newHub(Config{PingInterval: 1}, nil, nil)
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRegistry()
			for i := range n {
				s := &stream{groups: []string{"group:all"}}
				s.recipient.UserKey = fmt.Sprint(i)
				r.add(s)
			}
			h.streams = r
			for b.Loop() {
				rows := []store.Notification{{Entry: store.Entry{UserKey: "group:all", ItemID: "1"}, Data: []byte(`{"id":1}`)}}
				h.events.begin(1, nil)
				at := &position{}
				for range h.streams.under("group:all") {
					h.events.row(0, at, &rows[0])
				}
				h.events.reset()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/stream")
		})
	}
}

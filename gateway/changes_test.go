package gateway

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// change appends what became of an item of a user, and returns the batch that
// brings it.
func (f *fakeSource) change(user, item string, change store.Change, data string) store.Batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := store.Entry{XID: uint64(len(f.rows) + 1), UserKey: user, ItemID: item, Change: change}
	f.rows = append(f.rows, store.Notification{Entry: e, Data: []byte(data)})
	return store.Batch{Entries: []store.Entry{e}, Cursor: f.cursor(len(f.rows))}
}

// Clients that do not ask for changes take every event with data for a
// notification.
func TestOnlyThoseWhoAskGetChanges(t *testing.T) {
	bothWays(t, nil, func(r *rig) {
		plain, asks := r.open("5", ""), r.open("5", "&changes=true&types=a")
		for _, c := range []*client{plain, asks} {
			c.expect(eventConnected, "")
		}
		r.deliver(r.source.change("5", "1", store.ChangeUpdated, `{"id":1,"notification_type":"a"}`))
		r.deliver(r.source.change("5", "2", store.ChangeUpdated, `{"id":2,"notification_type":"b"}`))
		r.deliver(r.source.change("5", "3", store.ChangeRemoved, `{"id":3}`))
		r.deliver(r.source.change("*", "", store.ChangeRefresh, `{"reason":"bulk"}`))
		r.deliver(r.source.change("6", "4", store.ChangeRemoved, `{"id":4}`))
		last := r.source.add("5")
		r.source.rows[len(r.source.rows)-1].Data = []byte(`{"id":9,"notification_type":"a"}`)
		r.deliver(last)
		plain.expect(eventNotification, `{"id":9`)
		for _, want := range [][2]string{{"updated", `{"id":1,`}, {"removed", `{"id":3}`}, {"refresh", `{"reason":"bulk"}`}, {eventNotification, `{"id":9`}} {
			if e := asks.expect(want[0], want[1]); e.id == "" {
				t.Errorf("%s has no id", want[0])
			}
		}
	})
}

// Within one batch the row that was captured says already what it is now.
func TestABatchTellsEachItemOnce(t *testing.T) {
	r := setup(t, nil)
	asks := r.open("5", "&changes=true")
	asks.expect(eventConnected, "")
	batch := r.source.add("5")
	item := batch.Entries[0].ItemID
	for _, next := range []store.Batch{
		r.source.change("5", item, store.ChangeUpdated, `{"id":0}`), r.source.change("5", "7", store.ChangeUpdated, `{"id":7}`),
		r.source.change("5", "7", store.ChangeRemoved, `{"id":7}`), r.source.change("5", "8", store.ChangeRemoved, `{"id":8}`),
		r.source.change("5", "8", store.ChangeUpdated, `{"id":8,"again":true}`),
	} {
		batch.Entries, batch.Cursor = append(batch.Entries, next.Entries...), next.Cursor
	}
	r.deliver(batch)
	r.deliver(r.source.change("5", "9", store.ChangeRemoved, `{"id":9}`))
	asks.expect(eventNotification, "")
	asks.expect("removed", `{"id":7}`) // though the view has it
	asks.expect("removed", `{"id":8}`)
	asks.expect("updated", `again`)
	asks.expect("removed", `{"id":9}`)
}

// Of two transactions that change one row the later one may have the lower ID. What
// it says holds, in one batch and over the pages of a replay.
func TestWhatIsLaterInTimeHolds(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.ReplayLimit = 1 })
	plain, asks := r.open("5", ""), r.open("5", "&changes=true")
	plain.expect(eventConnected, "")
	id := asks.expect(eventConnected, "").id
	now := time.Now()
	var batch store.Batch
	for _, row := range []struct {
		item   string
		change store.Change
		after  time.Duration
	}{
		{"1", "", 2}, {"1", store.ChangeRemoved, 1}, // taken away and brought back
		{"2", store.ChangeRemoved, 2}, {"2", "", 1}, {"2", store.ChangeUpdated, 1}, // brought and taken away
	} {
		next := r.source.change("5", row.item, row.change, `{"id":`+row.item+`}`)
		last := &r.source.rows[len(r.source.rows)-1]
		last.InsertedAt = now.Add(row.after * time.Second)
		batch.Entries, batch.Cursor = append(batch.Entries, last.Entry), next.Cursor
	}
	r.deliver(batch)
	r.deliver(r.source.change("5", "9", store.ChangeRemoved, `{"id":9}`))
	r.deliver(r.source.add("5"))
	back := r.open("5", "&changes=true&last_event_id="+id)
	back.expect(eventConnected, "")
	for _, c := range []*client{asks, back} {
		c.expect(eventNotification, `{"id":1}`)
		c.expect("removed", `{"id":2}`)
		c.expect("removed", `{"id":9}`)
	}
	plain.expect(eventNotification, `{"id":1}`)
	plain.expect(eventNotification, `{"id":2}`) // it cannot be told otherwise
	plain.expect(eventNotification, "")
}

// A row that goes from one key of a client to another and back is removed from the
// other one only.
func TestARowThatComesBackToAKeyStays(t *testing.T) {
	r := setup(t, nil)
	asks := r.open("5", "&changes=true")
	id := asks.expect(eventConnected, "").id
	now := time.Now()
	var batch store.Batch
	for i, row := range []struct {
		key    string
		change store.Change
		data   string
	}{{"5", "", `{"id":1}`}, {"5", store.ChangeRemoved, `{"id":1}`}, {"*", "", ""}, {"*", store.ChangeRemoved, `{"id":1}`}, {"5", "", `{"id":1}`}} {
		next := r.source.change(row.key, "1", row.change, row.data)
		last := &r.source.rows[len(r.source.rows)-1]
		last.InsertedAt = now.Add(time.Duration(i) * time.Second)
		if row.data == "" {
			last.Data = nil // the view has it for somebody else by now
		}
		batch.Entries, batch.Cursor = append(batch.Entries, last.Entry), next.Cursor
	}
	r.deliver(batch)
	r.deliver(r.source.change("5", "9", store.ChangeRemoved, `{"id":9}`))
	back := r.open("5", "&changes=true&last_event_id="+id)
	back.expect(eventConnected, "")
	for _, c := range []*client{asks, back} {
		last := ""
		for e := c.next(); e.data != `{"id":9}`; e = c.next() {
			last = e.event
		}
		if last != eventNotification {
			t.Errorf("the client was told %q last", last)
		}
	}
}

// A client that was away gets the changes too, if it asks for them.
func TestResumeBringsChanges(t *testing.T) {
	r := setup(t, nil)
	c := r.open("5", "")
	id := c.expect(eventConnected, "").id
	r.deliver(r.source.change("5", "1", store.ChangeUpdated, `{"id":1}`))
	r.deliver(r.source.add("5"))
	for query, want := range map[string][]string{"": {eventNotification}, "&changes=true": {"updated", eventNotification}} {
		back := r.open("5", "&last_event_id="+id+query)
		back.expect(eventConnected, "")
		for _, event := range want {
			back.expect(event, "")
		}
	}
}

// A count follows connected and each change of it, folded to one a second, and
// nobody is counted who does not ask.
func TestUnreadCount(t *testing.T) {
	r := setup(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.hub.runCounts(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	plain, asks := r.open("5", ""), r.open("5", "&count=true")
	plain.expect(eventConnected, "")
	asks.expect(eventConnected, "")
	if e := asks.expect(eventUnread, `{"count":0}`); e.id != "" {
		t.Error("a count carries an id")
	}
	for range 50 {
		r.deliver(r.source.add("5"))
	}
	events := 0
	for e := asks.next(); ; e = asks.next() {
		if e.event == eventUnread && e.data == `{"count":50}` {
			break
		}
		if e.event == eventUnread {
			events++
		}
	}
	if events > 3 {
		t.Errorf("%d counts came for 50 rows in a moment", events)
	}
	second := r.open("5", "&count=true") // it is told what the other knows
	second.expect(eventConnected, "")
	second.expect(eventUnread, `{"count":50}`)
	for range 50 {
		plain.expect(eventNotification, "")
	}
	asked := r.source.counted()
	for i := range 20 {
		r.deliver(r.source.add(fmt.Sprint(100 + i)))
	}
	if r.source.counted() != asked {
		t.Error("somebody was counted who does not ask")
	}
}

// The rules of the count take the time as an argument.
func TestCountsAreDueOnceASecond(t *testing.T) {
	c, now := newUnreadCounts(), time.Unix(1000, 0)
	s := &stream{counts: true}
	s.recipient.UserKey = "5"
	c.addLocked(s)
	if due, _ := c.dueLocked(now); len(due) != 1 {
		t.Errorf("%q is due for a new stream", due)
	}
	c.users["5"].asking = false
	c.changedLocked([]store.Entry{{UserKey: "5"}})
	if due, wait := c.dueLocked(now.Add(300 * time.Millisecond)); len(due) != 0 || wait != 700*time.Millisecond {
		t.Errorf("%q is due too early, wait %v", due, wait)
	}
	if due, _ := c.dueLocked(now.Add(time.Second)); len(due) != 1 {
		t.Errorf("%q is due after a second", due)
	}
	c.users["5"].asking = false
	c.refreshLocked(now.Add(30*time.Second), time.Minute)
	if due, _ := c.dueLocked(now.Add(30 * time.Second)); len(due) != 0 {
		t.Errorf("%q is due though nothing changed", due)
	}
	c.refreshLocked(now.Add(2*time.Minute), time.Minute)
	if due, _ := c.dueLocked(now.Add(2 * time.Minute)); len(due) != 1 {
		t.Errorf("%q is due after the interval", due)
	}
	c.changedLocked([]store.Entry{{UserKey: everybodyKey, Change: store.ChangeRefresh}})
	if c.changed["5"] == nil {
		t.Error("a refresh for everybody does not count")
	}
	c.removeLocked(s)
	if len(c.users)+len(c.changed) != 0 {
		t.Error("a user without a stream is remembered")
	}
}

// What a client asks for in words that are none of ours is an error that it sees.
func TestQueryOfChanges(t *testing.T) {
	r := setup(t, nil)
	for query, want := range map[string]int{"changes=1": 400, "count=yes": 400, "changes=true&changes=true": 400, "changes=false&count=false": 200} {
		resp, err := r.server.Client().Head(r.server.URL + "/api/notifications/stream/?token=5&" + query)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", query, resp.StatusCode, want)
		}
	}
}

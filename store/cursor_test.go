package store

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

var (
	testInstall = [16]byte{1, 2, 3, 4, 5}
	testTime    = time.UnixMicro(1_700_000_000_000_000).UTC()
)

// A cursor that changes on its way to the client and back skips or repeats.
func TestCursorRoundTrip(t *testing.T) {
	for _, s := range []Snapshot{{Xmax: 1}, {Xmax: 700}, {Xmax: 700, Xip: []uint64{3, 698, 699}}, {Xmax: 1<<63 + 5, Xip: []uint64{1, 1 << 63}}} {
		c := MakeCursor(testInstall, 7, testTime, s)
		got, err := parseCursor(c.String(), testInstall)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%+v came back as %+v, %v", c, got, err)
		}
	}
	if n := len(MakeCursor(testInstall, 7, testTime, Snapshot{Xmax: 700}).String()); n > 40 {
		t.Errorf("a cursor with nothing in flight has %d characters", n)
	}
}

// A cursor with thousands of transactions in flight must not outgrow a header,
// and may claim less but never more.
func TestCursorWithManyInFlight(t *testing.T) {
	s := Snapshot{Xmax: 100_000}
	for xid := uint64(1000); xid < 9000; xid += 2 {
		s.Xip = append(s.Xip, xid)
	}
	text := MakeCursor(testInstall, 7, testTime, s).String()
	got, err := parseCursor(text, testInstall)
	if err != nil || len(text) > 2000 {
		t.Fatalf("%d characters, %v", len(text), err)
	}
	for xid := uint64(1); xid < 100_001; xid++ {
		if got.snapshot.Sees(xid) && !s.Sees(xid) {
			t.Fatalf("the cursor claims %d, which was in flight", xid)
		}
	}
}

// A cursor that was tampered with would let a client skip, or read the log of
// another installation.
func TestCursorRefusesWhatItDidNotWrite(t *testing.T) {
	good := MakeCursor(testInstall, 7, testTime, Snapshot{Xmax: 700, Xip: []uint64{5, 9}}).String()
	foreign := MakeCursor([16]byte{9}, 7, testTime, Snapshot{Xmax: 700}).String()
	forger := MakeCursor([16]byte{1, 2, 3, 4, 6}, 7, testTime, Snapshot{Xmax: 900}).String() // same first bytes, other key
	flipped := []byte(good)
	flipped[20] ^= 1
	for text, want := range map[string]string{
		"": "malformed", "x": "malformed", "42": "malformed", good[:10]: "malformed", good + "=": "malformed", strings.Repeat("A", 10_000): "malformed",
		good + "AAAA": "forged", string(flipped): "forged", foreign: "foreign", forger: "forged", "\x00\xff": "malformed",
	} {
		_, err := parseCursor(text, testInstall)
		var reset *ResetError
		if !errors.As(err, &reset) || reset.Reason != want {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

// After a crash Postgres hands out again IDs that never reached the disk: what
// no log row proves must count as not seen.
func TestSnapshotClip(t *testing.T) {
	s := Snapshot{Xmax: 100, Xip: []uint64{10, 50, 90}}
	for highest, want := range map[uint64]Snapshot{
		200: s, 99: s, 98: {Xmax: 99, Xip: []uint64{10, 50, 90}},
		60: {Xmax: 61, Xip: []uint64{10, 50}}, 50: {Xmax: 51, Xip: []uint64{10, 50}}, 0: {Xmax: 1, Xip: []uint64{}},
	} {
		got := s.Clip(highest)
		if !got.equal(want) {
			t.Errorf("clip to %d: %+v, want %+v", highest, got, want)
		}
		for xid := uint64(1); xid <= 110; xid++ {
			if got.Sees(xid) != (s.Sees(xid) && xid <= max(highest, 0)) && highest < 99 {
				t.Errorf("clip to %d: sees %d = %t", highest, xid, got.Sees(xid))
			}
		}
	}
}

// Every replica must answer a stale cursor with a reset, or a loss that was
// not yet told would be forgotten with the connection.
func TestStaleCursorIsExpired(t *testing.T) {
	s := &Store{config: Config{Retention: time.Hour}}
	s.server.Store(&server{install: testInstall})
	s.clock.Store(testTime.UnixMicro())
	c := MakeCursor(testInstall, 7, testTime, Snapshot{Xmax: 700})
	for text, want := range map[string]string{
		c.String(): "", c.Stale().String(): "expired",
		MakeCursor(testInstall, 7, testTime.Add(-2*time.Hour), Snapshot{Xmax: 5}).String(): "expired",
		MakeCursor(testInstall, 7, testTime.Add(time.Hour), Snapshot{Xmax: 5}).String():    "future",
	} {
		_, err := s.ParseCursor(text)
		var reset *ResetError
		if want == "" && err != nil || want != "" && (!errors.As(err, &reset) || reset.Reason != want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := new(Store).ParseCursor(c.String()); !errors.Is(err, ErrNotReady) {
		t.Errorf("before the feed has connected: %v", err)
	}
}

func TestParseSnapshot(t *testing.T) {
	got, err := parseSnapshot("10:20:12,15")
	if err != nil || !reflect.DeepEqual(got, Snapshot{Xmax: 20, Xip: []uint64{12, 15}}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "1:2", "a:b:c", "1:2:3,x", "1:-2:"} {
		if _, err := parseSnapshot(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// FuzzParseCursor looks for a text that crashes the parser, or that it takes
// for one of its own.
func FuzzParseCursor(f *testing.F) {
	good := MakeCursor(testInstall, 7, testTime, Snapshot{Xmax: 700, Xip: []uint64{5, 9}})
	f.Add(good.String())
	f.Add("AZ-CfI3TmTkAvYLMt72gmAMB49oW7OaEQR0")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCursor(text, testInstall)
		if err == nil && c.String() != text {
			t.Errorf("%q was accepted and is written %q", text, c.String())
		}
	})
}

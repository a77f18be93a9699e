package store

import (
	"encoding/base64"
	"encoding/binary"
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
		for _, place := range []Place{{}, {s.Xmax, 0}, {s.Xmax + 1, 1 << 40}, {1<<64 - 1, -1}, {s.oldest(), 9}} {
			c.place = place
			got, err := parseCursor(c.String(), testInstall)
			if err != nil || !reflect.DeepEqual(got, c) {
				t.Errorf("%+v came back as %+v, %v", c, got, err)
			}
		}
	}
	if n := len(MakeCursor(testInstall, 7, testTime, Snapshot{Xmax: 700}).String()); n > 40 {
		t.Errorf("a cursor with nothing in flight has %d characters", n)
	}
}

// golden are texts that clients hold.
var golden = map[string]Cursor{
	"AQECAwQAAAAHgID5wMHEggO8BcFRm91Frgo7":             MakeCursor(testInstall, 7, testTime, Snapshot{Xmax: 700}),
	"AQECAwQAAAAHgID5wMHEggO8BQEBtwX8jAMhdSeZXw":       MakeCursor(testInstall, 7, testTime, Snapshot{Xmax: 700, Xip: []uint64{3, 698, 699}}),
	"AgECAwQAAAAHgID5wMHEggO8BbwFwMQHAQG3BXB3090hDDuK": MakeCursor(testInstall, 7, testTime, Snapshot{Xmax: 702, Xip: []uint64{3, 698, 699}}).inside(Place{700, 123_456}, Cursor{at: testTime}),
}

// While replicas are upgraded one by one, and after it, clients come with what
// they were given before: a change of the text would tell all of them to reload.
func TestCursorsThatClientsHold(t *testing.T) {
	for text, want := range golden {
		got, err := parseCursor(text, testInstall)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read as %+v, %v, want %+v", text, got, err, want)
		}
		if again := want.String(); again != text {
			t.Errorf("%+v is written %s, want %s", want, again, text)
		}
	}
}

// signed is the text of a cursor with a body of the test's own after the
// incarnation.
func signed(version byte, body ...byte) string {
	b := binary.BigEndian.AppendUint32(append([]byte{version}, testInstall[:4]...), 7)
	b = append(b, body...)
	return base64.RawURLEncoding.EncodeToString(append(b, Cursor{install: testInstall}.mac(b)...))
}

// A place that the snapshot sees already, or none where the version promises one, was
// not written by us, whatever the MAC says.
func TestCursorRefusesABadPlace(t *testing.T) {
	for name, text := range map[string]string{
		"no place":                signed(cursorInside, 1, 50),
		"no position":             signed(cursorInside, 1, 50, 60),
		"no transaction":          signed(cursorInside, 1, 50, 0, 9),
		"one that had ended":      signed(cursorInside, 1, 50, 49, 9),
		"one that had ended, too": signed(cursorInside, 1, 50, 49, 9, 2),
		"a number too large":      signed(cursorInside, append([]byte{1, 50}, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"...)...),
		"another version":         signed(3, 1, 50, 60, 9),
	} {
		_, err := parseCursor(text, testInstall)
		var reset *ResetError
		if !errors.As(err, &reset) || reset.Reason != "malformed" {
			t.Errorf("%s: %v, want malformed", name, err)
		}
	}
	for _, text := range []string{signed(cursorInside, 1, 50, 50, 9), signed(cursorInside, 1, 50, 48, 9, 2)} {
		if _, err := parseCursor(text, testInstall); err != nil {
			t.Errorf("a good one: %v", err)
		}
	}
}

// A position inside a transaction that is lost when an older transaction
// commits meanwhile, or kept when nothing is known any more, starts the
// transaction over or hides rows.
func TestCursorKeepsItsPlace(t *testing.T) {
	from := MakeCursor(testInstall, 7, testTime, Snapshot{Xmax: 70, Xip: []uint64{50}})
	from.place = Place{70, 9}
	to := MakeCursor(testInstall, 7, testTime.Add(time.Second), Snapshot{Xmax: 90})
	part := MakeCursor(testInstall, 7, testTime.Add(time.Second), Snapshot{Xmax: 90, Xip: []uint64{70}})
	part.place = Place{70, 20}
	elsewhere := MakeCursor(testInstall, 8, testTime.Add(time.Second), Snapshot{Xmax: 90})
	for name, c := range map[string]struct {
		got  Cursor
		want Place
	}{
		"an older transaction":                 {to.through(50, from), Place{70, 9}},
		"inside an older one":                  {to.inside(Place{50, 3}, from), Place{50, 3}},
		"further in":                           {to.inside(Place{70, 11}, from), Place{70, 11}},
		"the end of the same":                  {to.through(70, from), Place{}},
		"a later transaction":                  {to.through(75, from), Place{}},
		"another life":                         {elsewhere.through(50, from), Place{}},
		"inside, in another life":              {elsewhere.inside(Place{50, 3}, from), Place{50, 3}},
		"a client that must reload":            {from.Stale(), Place{}},
		"before a part":                        {part.through(50, from), Place{70, 9}},
		"the end of a part":                    {part.through(70, from), Place{70, 20}},
		"after a part":                         {part.through(75, from), Place{70, 20}},
		"after a part, to one that has it all": {part.through(75, to), Place{}},
	} {
		if c.got.place != c.want {
			t.Errorf("%s: the place is %+v, want %+v", name, c.got.place, c.want)
		}
		if c.got.snapshot.Sees(c.got.place.xid) && c.want != (Place{}) {
			t.Errorf("%s: the snapshot sees the transaction that the cursor is inside of", name)
		}
	}
	further := from
	further.place.position++
	if !further.Moved(from, time.Hour) || from.Moved(from, time.Hour) {
		t.Error("a stream is not told how far it is")
	}
}

// A cursor with thousands of transactions in flight must not outgrow a header,
// and may claim less but never more.
func TestCursorWithManyInFlight(t *testing.T) {
	s := Snapshot{Xmax: 100_000}
	for xid := uint64(1000); xid < 9000; xid += 2 {
		s.Xip = append(s.Xip, xid)
	}
	c := MakeCursor(testInstall, 7, testTime, s)
	c.place = Place{100_000, 5} // which it goes on claiming
	text := c.String()
	got, err := parseCursor(text, testInstall)
	if err != nil || len(text) > 2000 || got.place != c.place {
		t.Fatalf("%d characters, %+v, %v", len(text), got.place, err)
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

// A position that claims a transaction of neither loses it, and one that
// forgets what either knew repeats all of that.
func TestSnapshotWith(t *testing.T) {
	all := []Snapshot{{Xmax: 1}, {Xmax: 20}, {Xmax: 20, Xip: []uint64{3, 7, 19}}, {Xmax: 12, Xip: []uint64{7, 8}}, {Xmax: 8, Xip: []uint64{1, 2, 3, 4, 5, 6, 7}}}
	for _, s := range all {
		for _, o := range all {
			both := s.with(o)
			for xid := uint64(1); xid <= 25; xid++ {
				if both.Sees(xid) != (s.Sees(xid) || o.Sees(xid)) {
					t.Errorf("%+v with %+v: sees %d = %t", s, o, xid, both.Sees(xid))
				}
			}
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
	s.server.follow(&server{identity: identity{install: testInstall}})
	s.server.polled(testTime)
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
// for one of its own; and, behind the MAC, for a body that is read as a cursor
// which is then written and read as another.
func FuzzParseCursor(f *testing.F) {
	for text := range golden {
		f.Add(text)
	}
	f.Add("AZ-CfI3TmTkAvYLMt72gmAMB49oW7OaEQR0")
	f.Add("AgECAwQAAAAHgID5wMHEggO8BbwFwMQHAQG3BX\rB3090hDDuK")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCursor(text, testInstall)
		if err == nil && c.String() != text {
			t.Errorf("%q was accepted and is written %q", text, c.String())
		}
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(b) < 9+cursorMAC {
			return
		}
		c, err = parseCursor(signed(b[0], b[9:len(b)-cursorMAC]...), testInstall)
		if err != nil {
			return
		}
		again, err := parseCursor(c.String(), testInstall)
		if err != nil || again.String() != c.String() || len(c.snapshot.Xip) <= cursorXip && !reflect.DeepEqual(again, c) {
			t.Errorf("%+v came back as %+v, %v", c, again, err)
		}
	})
}

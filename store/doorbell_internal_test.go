package store

import (
	"slices"
	"testing"
	"time"
)

// manyGateways are so many that the feed does not poll eagerly.
const manyGateways = 20

// bellTest drives a doorbell by a clock of its own.
type bellTest struct {
	*testing.T
	bell doorbell
	now  time.Time
}

func newBellTest(t *testing.T, listens bool) *bellTest {
	b := &bellTest{T: t, now: time.Unix(1_000_000, 0)}
	b.bell = newDoorbell(b.now, listens)
	b.bell.others = manyGateways
	return b
}

// expect asks for the next step.
func (b *bellTest) expect(want step, pause time.Duration) {
	b.Helper()
	if got, wait := b.bell.next(b.now); got != want || wait != pause {
		b.Fatalf("step %d after %v in mode %d, want %d after %v", got, wait, b.bell.mode, want, pause)
	}
}

func (b *bellTest) expectMode(want bellMode) {
	b.Helper()
	if b.bell.mode != want {
		b.Fatalf("mode %d, want %d", b.bell.mode, want)
	}
}

// poll is a poll that brings so many transactions, while xip run.
func (b *bellTest) poll(transactions int, xip ...uint64) (release bool) {
	b.bell.pollBegins(b.now)
	release = b.bell.polled(b.now, Snapshot{Xmax: 1000, Xip: xip}, transactions)
	if release {
		b.bell.slotReleased(b.now, manyGateways)
	}
	b.bell.delivered(b.now, transactions, 1)
	return release
}

// asleep is a doorbell that has a slot and knows of no silent writer.
func asleep(t *testing.T) *bellTest {
	t.Helper()
	b := newBellTest(t, true)
	b.bell.slotTaken(b.now, 3)
	b.expectMode(modeSettling)
	b.expect(stepPoll, 0)
	b.poll(0)
	b.expectMode(modeAsleep)
	b.expect(stepPoll, fallbackPoll)
	return b
}

// A writer that read "all are awake" just before the slot was taken commits
// without a notification. A feed that waited for one would get its row from the
// fallback poll.
func TestDoorbellPollsUntilSilentWritersHaveEnded(t *testing.T) {
	t.Parallel()
	b := newBellTest(t, true)
	b.now = b.now.Add(quietTime)
	b.expect(stepTakeSlot, 0)
	b.bell.slotTaken(b.now, 1)
	b.poll(0, 10, 12)
	b.expectMode(modeSettling)
	b.expect(stepPoll, pollMin)
	b.poll(0, 12, 14) // 14 began later, so it notifies
	b.expectMode(modeSettling)
	if want := []uint64{12}; !slices.Equal(b.bell.silentWriters, want) {
		t.Errorf("silent writers %v, want %v", b.bell.silentWriters, want)
	}
	b.poll(0, 14)
	b.expectMode(modeAsleep)
	b.expect(stepPoll, fallbackPoll)
}

// While settling the feed polls, and a notification makes it poll at once.
func TestDoorbellIsRungWhileItSettles(t *testing.T) {
	t.Parallel()
	b := newBellTest(t, true)
	b.bell.slotTaken(b.now, 1)
	b.poll(0, 10)
	b.bell.ring(b.now)
	b.expect(stepPoll, 0)
	b.poll(1, 10)
	b.expect(stepPoll, pollMin)
	b.expect(stepPoll, pollMin*3/2) // each wait is longer
	for range 20 {
		b.bell.next(b.now)
	}
	b.expect(stepPoll, pollMax)
}

// Many transactions a second would each pay for a notification. The slot must be
// released before the batch that shows them is delivered, and not be tried for
// while they go on.
func TestDoorbellReleasesItsSlotWhenManyWrite(t *testing.T) {
	t.Parallel()
	b := asleep(t)
	if b.poll(rateThreshold - 1) {
		t.Error("the slot was released too early")
	}
	b.now = b.now.Add(rateWindow / 2)
	if !b.poll(1) {
		t.Error("the slot was not released")
	}
	b.expectMode(modeAwake)
	b.expect(stepPoll, pollMin)
	for range 10 {
		b.now = b.now.Add(retryBusy / 10)
		b.poll(rateThreshold)
	}
	// A gateway that died asleep has left writers looking at the slots.
	b.expect(stepReleaseSlot, 0)
	b.bell.slotReleased(b.now, manyGateways)
	b.expect(stepPoll, pollMin)
}

// What fewer transactions a second write is slowly brought by polls. Once a
// second the feed must try for a slot although rows keep coming.
func TestDoorbellTriesForASlotWhileFewWrite(t *testing.T) {
	t.Parallel()
	b := newBellTest(t, true)
	for range 10 {
		b.poll(10)
		b.expect(stepPoll, pollMin)
		b.now = b.now.Add(retryBusy / 10)
	}
	b.poll(10)
	b.expect(stepAnnounceAndTake, pollMin)
	b.bell.slotTaken(b.now, 0)
	b.expect(stepReleaseSlot, 0) // writers were made to look at the slots, and must be spared it again
	b.bell.slotReleased(b.now, manyGateways)
	b.expect(stepPoll, pollMin)
}

// Notifications close together may mean that commits wait for each other. One
// look at the locks decides, and no more than one in closeRings.
func TestDoorbellLooksForWritersThatWait(t *testing.T) {
	t.Parallel()
	b := asleep(t)
	b.bell.ring(b.now)
	b.bell.ring(b.now) // folded
	b.expect(stepPoll, 0)
	b.poll(2)
	b.expect(stepPoll, fallbackPoll)
	b.now = b.now.Add(closeRings / 2)
	b.bell.ring(b.now)
	b.expect(stepLookForWriters, 0)
	if b.bell.writersWait(b.now, false) {
		t.Error("the slot is to be released though nobody waits")
	}
	b.expect(stepPoll, 0) // the notification is not forgotten
	b.poll(1)
	b.now = b.now.Add(closeRings / 2)
	b.bell.ring(b.now)
	b.expect(stepPoll, 0) // the last look is not long ago
	b.poll(1)
	b.now = b.now.Add(closeRings - 1)
	b.bell.ring(b.now)
	b.expect(stepLookForWriters, 0)
	if !b.bell.writersWait(b.now, true) {
		t.Error("the slot is kept though writers wait")
	}
	b.bell.slotReleased(b.now, manyGateways)
	b.expectMode(modeAwake)
	b.expect(stepPoll, pollMin)
}

// Another gateway's notifications must not make an awake feed look for writers.
func TestDoorbellIgnoresRingsWhileAwake(t *testing.T) {
	t.Parallel()
	b := newBellTest(t, true)
	for range 3 {
		b.bell.ring(b.now)
		b.expect(stepPoll, pollMin)
		b.poll(1)
	}
}

// Without LISTEN no slot may be taken: writers would notify, and nobody would
// hear it.
func TestDoorbellWithoutListenPolls(t *testing.T) {
	t.Parallel()
	b := newBellTest(t, false)
	for passed := time.Duration(0); passed < probeInterval; {
		step, wait := b.bell.next(b.now)
		if step != stepPoll || wait > pollMax {
			t.Fatalf("step %d after %v", step, wait)
		}
		passed, b.now = passed+wait, b.now.Add(wait)
	}
	b.expect(stepProbe, 0)
	b.bell.probed(b.now, true)
	b.expectMode(modeAwake)
	b.bell.probed(b.now, false)
	b.expectMode(modePollOnly)
	b.expect(stepPoll, pollMin)
}

// A quiet feed that may not sleep, and one without a stream, poll less often.
func TestDoorbellSlowsDown(t *testing.T) {
	t.Parallel()
	b := newBellTest(t, true)
	b.now = b.now.Add(quietTime)
	b.bell.slotTaken(b.now, 0)
	b.bell.slotReleased(b.now, manyGateways)
	pauses := 0
	for b.bell.pace < pollMax {
		b.bell.next(b.now)
		if pauses++; pauses > 10 {
			t.Fatalf("after %d polls that brought nothing the pace is %v", pauses, b.bell.pace)
		}
	}
	b.bell.delivered(b.now, 1, 1)
	b.expect(stepPoll, pollMin)
	b.bell.delivered(b.now, 1, 0)
	b.expect(stepPoll, pollMax)
}

// A fixed pause between polls is most of a row's latency. A feed that is alone and
// quick polls again at once after rows; one beside others, with large batches, with
// many writers or on a busy machine does not.
func TestDoorbellPollsEagerly(t *testing.T) {
	t.Parallel()
	b := newBellTest(t, true)
	b.bell.others = 0
	b.poll(1)
	b.expect(stepPoll, 0)
	b.poll(0)
	b.expect(stepPoll, eagerMin) // nothing came
	for range 20 {
		b.bell.next(b.now)
	}
	b.expect(stepPoll, pollMin)
	for name, change := range map[string]func(){
		"beside others":  func() { b.bell.others = manyGateways },
		"many writers":   func() { b.bell.rate.perSecond = eagerRate + 1 },
		"a busy machine": func() { b.bell.began = b.now.Add(-eagerTook - 1) },
		"asleep":         func() { b.bell.mode = modeSettling },
	} {
		was := b.bell
		b.bell.pollBegins(b.now)
		change()
		b.bell.delivered(b.now, 1, 1)
		if b.bell.pace != pollMin {
			t.Errorf("%s: a poll after %v", name, b.bell.pace)
		}
		if name == "a busy machine" {
			b.bell.pollBegins(b.now)
			b.bell.delivered(b.now, 1, 1)
			if b.bell.pace != pollMin {
				t.Errorf("just after %s: a poll after %v", name, b.bell.pace)
			}
		}
		b.bell = was
	}
	b.bell.pollBegins(b.now)
	b.bell.delivered(b.now, eagerRows+1, 1)
	b.expect(stepPoll, pollMin)
	b.bell.others = 1
	b.poll(1)
	b.expect(stepPoll, eagerReplicas)
}

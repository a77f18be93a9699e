package store

import (
	"slices"
	"time"
)

// The doorbell decides how the feed learns of new rows: by polling, or by
// notifications from the writers.
//
// A commit that notifies waits for every other such commit in the cluster, and
// holds them up through its own flush
// (https://www.postgresql.org/docs/current/sql-notify.html). So a gateway asks
// for notifications only while few transactions come. It asks by holding the
// lock of one of eight slots; while no slot is held, no writer notifies.
//
//	          LISTEN works                 slot taken
//	pollOnly ──────────────▶ awake ────────────────────────▶ settling
//	    ▲                    ▲  ▲                               │ every silent writer
//	    │ LISTEN fails       │  │ many transactions a second,   │ has ended
//	    └────────────────────┘  │ or writers wait to notify     ▼
//	                            └──────────────────────────── asleep
//
// Invariant: while a row may be committed without a notification, the feed
// polls every few milliseconds. A writer that finds every slot free keeps the
// slots shared until its row is visible, so a slot can be taken only when such a
// writer has ended. A writer need not even look at the slots while a sequence
// says that all gateways are awake. One that has read this just before the slot
// was taken is a silent writer: it commits without a notification. It has a
// transaction ID by then, so the snapshot of the first poll after the slot was
// taken lists it, and the feed stays in settling until it has ended.
type bellMode uint8

const (
	modePollOnly bellMode = iota // Notifications do not arrive on this connection. The feed polls.
	modeAwake                    // No slot is held, so no writer notifies for us. The feed polls.
	modeSettling                 // A slot is held, but silent writers may still run. The feed polls, and a notification makes it poll sooner.
	modeAsleep                   // A slot is held and every writer notifies. The feed waits for a notification.
)

// step is what the feed does next.
type step uint8

const (
	stepPoll            step = iota // wait, then poll; in settling and asleep a notification ends the wait
	stepProbe                       // try LISTEN, then call probed
	stepTakeSlot                    // sleep(), then call slotTaken
	stepAnnounceAndTake             // mind(), wait, sleep(), then call slotTaken
	stepReleaseSlot                 // wake(slot), then call slotReleased
	stepLookForWriters              // look in pg_locks for writers that wait to notify, then call writersWait
)

const (
	quietTime     = 150 * time.Millisecond // without rows before a slot is tried for
	retryBusy     = time.Second            // between two tries while rows come
	closeRings    = 100 * time.Millisecond // notifications closer than this may mean that writers wait for each other
	probeInterval = time.Minute            // between two tries of LISTEN where it does not work
	pollMin       = 3 * time.Millisecond   // between two polls while rows come
	pollMax       = 50 * time.Millisecond  // between two polls when none have come for a while, or no stream is open
	fallbackPoll  = 5 * time.Second        // finds what was notified into a dead connection, and two-phase commits
	rateWindow    = 250 * time.Millisecond
	rateThreshold = 160 // transactions in a window. One writer with a 1 ms WAL flush makes 640 a second and keeps 98 % of its rate when it need not notify, 92 % when it must.

	// While few rows come, and there is time for it, a poll follows the last one that
	// brought rows at once: a row then waits for half a poll and not for half of pollMin.
	eagerMin      = 200 * time.Microsecond // the first pause after a poll that brought nothing
	eagerRows     = 32                     // in a batch; more come anyway
	eagerTook     = 2 * time.Millisecond   // for a poll and its delivery; longer, and the machine has other work
	eagerPause    = 250 * time.Millisecond // after a poll that took longer
	eagerRate     = 3000                   // transactions a second; above it writers need the machine
	eagerReplicas = 600 * time.Microsecond // between two polls for each other gateway at the database
)

// doorbell is the state. It holds no connection and reads no clock: the feed
// says what happened and when, and carries out the step that next returns. It
// is owned by the feed's goroutine.
type doorbell struct {
	mode     bellMode
	slot     int           // whose lock is held in settling and asleep, else 0
	pace     time.Duration // of the next poll in pollOnly, awake and settling
	lastRows time.Time     // when a batch with rows was last delivered
	tried    time.Time     // when a slot was last tried for or released; in pollOnly when LISTEN was last tried
	rate     rateMeter
	began    time.Time // when the last poll began
	busy     time.Time // when the last poll began that took long
	others   int       // gateways at the same database, when we last asked

	rung     bool      // a notification came since the last poll began
	lastRing time.Time // when the last notification came
	looked   time.Time // when we last looked for writers that wait
	queued   bool      // two notifications came close together, and nobody has looked since

	sayAwake      bool     // sleep() found no free slot, and has made writers look at them
	slotIsNew     bool     // the slot was taken after the last poll
	silentWriters []uint64 // transactions that may commit without a notification; ascending
}

// newDoorbell is the doorbell of a new connection.
func newDoorbell(now time.Time, listens bool) doorbell {
	d := doorbell{pace: pollMin, lastRows: now, tried: now, rate: rateMeter{since: now}}
	if listens {
		d.mode = modeAwake
	}
	return d
}

func (d *doorbell) hasSlot() bool { return d.mode == modeSettling || d.mode == modeAsleep }

// pollBegins notes that a poll will see everything that was notified so far.
func (d *doorbell) pollBegins(now time.Time) { d.rung, d.began = false, now }

// ring notes a notification. Several before the next poll count as one.
func (d *doorbell) ring(now time.Time) {
	if d.rung {
		return
	}
	d.rung = true
	if d.hasSlot() {
		d.queued = d.queued || now.Sub(d.lastRing) < closeRings && now.Sub(d.looked) >= closeRings
		d.lastRing = now
	}
}

// polled takes what a poll brought: its snapshot, and how many transactions. It
// reports whether the slot must be released before the batch is delivered:
// delivery may take seconds, through which every writer would notify.
func (d *doorbell) polled(now time.Time, snapshot Snapshot, transactions int) (release bool) {
	d.rate.add(now, transactions)
	if d.mode == modeSettling {
		if d.slotIsNew {
			d.slotIsNew, d.silentWriters = false, slices.Clone(snapshot.Xip)
		}
		d.silentWriters = slices.DeleteFunc(d.silentWriters, snapshot.Sees)
		if len(d.silentWriters) == 0 {
			d.mode = modeAsleep
		}
	}
	return d.hasSlot() && d.rate.high
}

// delivered notes that the batch of the last poll has been delivered, to so many
// streams.
func (d *doorbell) delivered(now time.Time, rows, streams int) {
	if rows > 0 {
		d.lastRows, d.pace = now, d.paceAfter(rows, now.Sub(d.began))
	}
	if streams == 0 {
		d.pace = pollMax
	}
}

// paceAfter is the pause after a poll that brought rows and took so long. Many
// gateways must not each poll as often as one may.
func (d *doorbell) paceAfter(rows int, took time.Duration) time.Duration {
	if took > eagerTook {
		d.busy = d.began
	}
	if d.mode != modeAwake || rows > eagerRows || d.began.Sub(d.busy) < eagerPause || d.rate.perSecond > eagerRate {
		return pollMin
	}
	return min(time.Duration(d.others)*eagerReplicas, pollMin)
}

// next says what to do, and for stepPoll after how long.
func (d *doorbell) next(now time.Time) (step, time.Duration) {
	idle, since := now.Sub(d.lastRows), now.Sub(d.tried)
	switch d.mode {
	case modePollOnly:
		if since >= probeInterval {
			return stepProbe, 0
		}
	case modeAwake:
		switch {
		case d.sayAwake:
			return stepReleaseSlot, 0
		case since >= quietTime && idle >= quietTime:
			return stepTakeSlot, 0
		case since >= retryBusy && d.rate.high:
			// Say again that all are awake. Another gateway may have died asleep, or released
			// its slot when we did, so that each saw the other's still held.
			return stepReleaseSlot, 0
		case since >= retryBusy:
			// Rows keep coming, so writers may hold the slots at any moment. Once they look at
			// the slots and those that ran before have ended, one may be free.
			return stepAnnounceAndTake, pollMin
		}
	case modeSettling, modeAsleep:
		switch {
		case d.slotIsNew || d.rung && !d.queued:
			return stepPoll, 0
		case d.queued: // only now: the rows did not wait for it
			return stepLookForWriters, 0
		case d.mode == modeAsleep:
			return stepPoll, fallbackPoll
		}
	}
	wait := d.pace
	switch {
	case d.pace < pollMin:
		d.pace = min(max(d.pace*3/2, eagerMin), pollMin)
	case d.mode == modeSettling || idle >= quietTime:
		d.pace = min(d.pace*3/2, pollMax)
	}
	return stepPoll, wait
}

// slotTaken takes the outcome of sleep(): the slot, or 0 where none was free.
func (d *doorbell) slotTaken(now time.Time, slot int) {
	d.tried = now
	if slot == 0 {
		d.sayAwake = true
		return
	}
	d.mode, d.slot, d.slotIsNew, d.silentWriters = modeSettling, slot, true, nil
	d.pace, d.rate = pollMin, rateMeter{since: now} // what is known of the rate is old
}

// slotReleased notes that wake() was called, and how many other gateways are at
// the database.
func (d *doorbell) slotReleased(now time.Time, others int) {
	d.others = others
	d.mode, d.slot, d.sayAwake, d.slotIsNew, d.silentWriters, d.queued = modeAwake, 0, false, false, nil, false
	d.tried, d.pace = now, pollMin
}

// writersWait takes what pg_locks says, and reports whether the slot must be
// released.
func (d *doorbell) writersWait(now time.Time, waiting bool) (release bool) {
	d.queued, d.looked = false, now
	return waiting
}

// probed takes whether LISTEN works.
func (d *doorbell) probed(now time.Time, listens bool) { *d = newDoorbell(now, listens) }

// rateMeter measures whether polls bring many transactions a second.
type rateMeter struct {
	high      bool
	perSecond float64   // when it was last measured
	since     time.Time // when it was last measured
	count     int       // transactions since then
}

func (r *rateMeter) add(now time.Time, transactions int) {
	r.count += transactions
	passed := now.Sub(r.since)
	if passed < rateWindow && r.count < rateThreshold {
		return // too early to say
	}
	r.high = time.Duration(r.count)*rateWindow >= rateThreshold*passed
	r.perSecond = float64(r.count) / max(passed, time.Millisecond).Seconds()
	r.since, r.count = now, 0
}

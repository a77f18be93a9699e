package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// delivery is an event that is about to be handed to a stream.
type delivery struct {
	to        *stream
	event     *event       // nil for a row, which is encoded when it is handed over
	row       int          // its index among the batch's rows, where event is nil
	entry     *store.Entry // where the row stands in the log; nil for other events
	at        *position    // what the event of a row carries as its id
	droppable bool         // may be left out for a client whose buffer is full
	notLoaded bool         // the row did not come in time: the stream catches up from the log
}

// batchRows are those rows of a batch that somebody is connected for, in the
// order of the log.
type batchRows struct {
	rows   []store.Notification
	loaded map[loadedKey]bool // what is here
	types  []rowType          // by the index of the row; nil until a client asks for some types only
	shown  map[string][]int   // by the item's ID: the rows that show it, where a batch has changes
	told   []bool             // by the index of the row: another one says it to clients that want changes; nil without changes
	// tellers are the indices of those other ones, by the index of the row; -1 where
	// what holds is that the row was removed.
	tellers []int
}

// toldTo reports whether another row of the batch says to a stream that wants
// changes what row i says. A client that came from a replica which was ahead may have
// seen that other row, so that it does not get it, and not this one.
func (b *batchRows) toldTo(s *stream, i int, at store.Cursor) bool {
	if b.told == nil || !b.told[i] || !s.changes {
		return false
	}
	k := b.tellers[i]
	return k < 0 || !s.hasSeen(b.rows[k].Entry, at)
}

// loadedKey is a key whose notifications are loaded, or whose changes are.
type loadedKey struct {
	key     string
	changes bool
}

func loadedKeyOf(e store.Entry) loadedKey { return loadedKey{e.UserKey, e.Change != ""} }

// load brings the rows of further entries.
func (b *batchRows) load(ctx context.Context, source Source, entries []store.Entry) error {
	rows, err := source.Load(ctx, entries)
	if err != nil {
		return err
	}
	if b.loaded == nil {
		b.rows, b.loaded = rows, make(map[loadedKey]bool, len(entries))
	} else { // somebody came while the first ones were loaded
		b.rows = append(b.rows, rows...)
		slices.SortStableFunc(b.rows, func(x, y store.Notification) int {
			return cmp.Or(cmp.Compare(x.XID, y.XID), cmp.Compare(x.Position, y.Position))
		})
	}
	for _, e := range entries {
		b.loaded[loadedKeyOf(e)] = true
	}
	b.types = nil
	b.foldChanges()
	return nil
}

// foldChanges finds the rows that clients which want changes need not be told,
// because another row of the batch says what the notification is now. The last of
// its rows in time decides whether it is removed; the view cannot tell, because it
// may show what does not satisfy --when or waits for its due time. Transactions that
// change one row wait for each other, so time orders them; the log does not, because
// a transaction may have its ID long before it changes the row.
func (b *batchRows) foldChanges() {
	b.told, b.tellers, b.shown = nil, nil, nil
	if !slices.ContainsFunc(b.rows, func(n store.Notification) bool { return n.Entry.Change != "" }) {
		return
	}
	type item struct{ key, id string }
	last := make(map[item]int, len(b.rows))
	for i, n := range b.rows {
		it := item{n.UserKey, n.ItemID}
		if k, known := last[it]; !known || !n.InsertedAt.Before(b.rows[k].InsertedAt) {
			last[it] = i
		}
	}
	before, teller := make(map[item]store.Change, len(b.rows)), make(map[item]int, len(b.rows))
	b.tellers = make([]int, len(b.rows))
	b.told, b.shown = make([]bool, len(b.rows)), map[string][]int{}
	for i, n := range b.rows {
		it := item{n.UserKey, n.ItemID}
		if n.Change == store.ChangeRefresh {
			continue
		}
		if n.Change != store.ChangeRemoved && n.Data != nil {
			b.shown[n.ItemID] = append(b.shown[n.ItemID], i)
		}
		if k := last[it]; b.rows[k].Change == store.ChangeRemoved {
			b.told[i], b.tellers[i] = i != k, -1
			continue
		}
		was, known := before[it]
		b.told[i] = n.Change != "" && known && (was != store.ChangeRemoved || n.Change == store.ChangeRemoved)
		if b.told[i] {
			b.tellers[i] = teller[it]
		}
		if !known || was == store.ChangeRemoved {
			before[it], teller[it] = n.Change, i
		}
	}
}

// readTypes finds out the type of each row, once for all streams.
func (b *batchRows) readTypes() {
	b.types = make([]rowType, len(b.rows))
	for i, n := range b.rows {
		b.types[i] = typeOf(n)
	}
}

// typeAt returns the type of a row, if readTypes was called.
func (b *batchRows) typeAt(i int) rowType {
	if b.types == nil {
		return rowType{}
	}
	return b.types[i]
}

// deliver brings a batch to every stream that stands under a key of it. Its
// error means that nothing was delivered and the batch must come again.
func (h *hub) deliver(ctx context.Context, batch store.Batch) error {
	var rows batchRows
	for {
		missing, done := h.commit(ctx, batch, &rows)
		switch {
		case done:
			h.report(batch.Entries, rows.rows)
			return nil
		case len(missing) == 0:
			rows.readTypes()
			continue
		}
		if err := rows.load(ctx, h.source, missing); err != nil {
			return err
		}
	}
}

// commit moves the hub to the position after the batch and hands the rows to
// the live streams. Where rows are missing for a live stream it does nothing,
// and returns their entries. Where only the types of the rows are missing it
// returns none, and is not done either.
func (h *hub) commit(ctx context.Context, batch store.Batch, rows *batchRows) (missing []store.Entry, done bool) {
	h.sending.Lock()
	defer h.sending.Unlock()
	at := &position{Cursor: batch.Cursor}
	missing, revoked, done := h.choose(batch, at, h.resetOnGap(at, batch.Reset), rows)
	if !done {
		return missing, false
	}
	for _, d := range h.handOverLocked(rows.rows) {
		h.overflowLocked(ctx, d)
	}
	for _, s := range revoked {
		h.end(s, endRevoked)
	}
	h.changeSessions(batch.Entries)
	return nil, true
}

// choose fills the deliveries with what a batch brings, and returns the streams
// that it ends. Nothing is read, parsed or encoded here, because requests wait
// for mu. The caller holds sending.
func (h *hub) choose(batch store.Batch, at *position, reset *gapReset, rows *batchRows) (missing []store.Entry, revoked []*stream, done bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	missing = h.missingLocked(batch.Entries, rows.loaded)
	if len(missing) > 0 || h.filtering > 0 && rows.types == nil && len(rows.rows) > 0 {
		return missing, nil, false
	}
	h.resetAllLocked(at, reset)
	idAfter := h.moveToLocked(at, batch.Partial)
	h.pickRowsLocked(rows, idAfter)
	if h.catchingUp > 0 {
		h.markMissedLocked(batch.Entries)
	}
	h.counts.changedLocked(batch.Entries)
	return nil, h.revokedLocked(batch.Entries), true
}

// missingLocked returns the entries that are not loaded yet and under whose key
// a live stream stands.
func (h *hub) missingLocked(entries []store.Entry, loaded map[loadedKey]bool) []store.Entry {
	var missing []store.Entry
	for _, e := range entries {
		if e.Disconnect != "" || e.Change != "" && h.changing == 0 || loaded[loadedKeyOf(e)] || !h.anyLiveLocked(e.UserKey, e.Change) {
			continue
		}
		if missing == nil { // mostly all or none
			missing = make([]store.Entry, 0, len(entries))
		}
		missing = append(missing, e)
	}
	return missing
}

func (h *hub) anyLiveLocked(key string, change store.Change) bool {
	for s := range h.streams.under(key) {
		if s.state == streamLive && s.wants(change, rowType{}) {
			return true
		}
	}
	return false
}

// moveToLocked moves the hub to a position and wakes the replays that wait for
// one. It returns the position that the last row of each stream carries: the new
// one, or the old one where a client gains nothing by a new text.
func (h *hub) moveToLocked(at *position, partial bool) (idAfter *position) {
	if h.next != nil {
		close(h.next)
		h.next, h.waiting = nil, 0
	}
	h.previous, idAfter = h.position, at
	if h.position != nil && !at.Moved(h.position.Cursor, h.config.CursorRefresh) {
		idAfter = h.position
	}
	h.position, h.partial = at, partial
	return idAfter
}

// pickRowsLocked chooses who gets which row. Of the rows that one stream gets
// only the last carries the position after the batch, idAfter. The others carry
// the position before it, so that a client whose connection breaks between two
// of them gets both again.
func (h *hub) pickRowsLocked(rows *batchRows, idAfter *position) {
	var sent sentRows
	if h.severalKeysLocked(rows.rows) {
		sent = sentRows{}
	}
	first := len(h.deliveries)
	for i := range rows.rows {
		n, kind := &rows.rows[i], rows.typeAt(i)
		if n.Data == nil && n.Err == nil {
			continue
		}
		notLoaded := errors.Is(n.Err, store.ErrRowTimeout)
		for s := range h.streams.under(n.UserKey) {
			if s.state != streamLive || rows.toldTo(s, i, h.position.Cursor) || n.Change == store.ChangeRemoved && rows.shownLater(s, n) || s.hasSeen(n.Entry, h.position.Cursor) || !s.wants(n.Change, kind) || n.Change == "" && !sent.first(s, n.ItemID) {
				continue
			}
			if n.Err != nil && !notLoaded {
				h.metrics.resets.WithLabelValues(resetUnreadable).Inc()
			}
			s.lastDelivery = int32(len(h.deliveries))
			h.deliveries = append(h.deliveries, delivery{to: s, row: i, entry: &n.Entry, at: h.positionOfLocked(s, h.previous), notLoaded: notLoaded})
		}
	}
	for i := first; i < len(h.deliveries); i++ {
		if d := &h.deliveries[i]; int(d.to.lastDelivery) == i {
			d.at, d.to.lastSent = idAfter, h.position
			if d.to.ahead != nil {
				d.at = h.positionOfLocked(d.to, h.position)
				d.to.lastSent = d.at
				h.reachedLocked(d.to)
			}
		}
	}
}

// severalKeysLocked reports whether one stream may match several keys of a batch.
func (h *hub) severalKeysLocked(rows []store.Notification) bool {
	return len(rows) > 1 && slices.ContainsFunc(rows, func(n store.Notification) bool { return h.streams.shared(n.UserKey) })
}

// sentRows remembers which stream gets which row of a batch, by item ID: a row
// that was captured under several keys is sent to a stream once. It is nil for a
// batch in which no stream can match several keys.
type sentRows map[sentRow]struct{}

type sentRow struct {
	to     *stream
	itemID string
}

// first reports whether s does not get the row yet, and notes that it does now.
func (r sentRows) first(s *stream, itemID string) bool {
	if r == nil {
		return true
	}
	if _, again := r[sentRow{s, itemID}]; again {
		return false
	}
	r[sentRow{s, itemID}] = struct{}{}
	return true
}

// markMissedLocked notes for the streams that catch up that a batch brought
// something for them.
func (h *hub) markMissedLocked(entries []store.Entry) {
	for _, e := range entries {
		if e.Disconnect != "" || e.UserKey == "" {
			continue
		}
		for s := range h.streams.under(e.UserKey) {
			if s.state == streamCatchingUp && s.wants(e.Change, rowType{}) {
				s.missedBatch = true
			}
		}
	}
}

// revokedLocked returns the streams that a batch ends.
func (h *hub) revokedLocked(entries []store.Entry) []*stream {
	var revoked []*stream
	for _, e := range entries {
		if _, session := sessionChange(e); e.Disconnect == "" || session {
			continue
		}
		before := len(revoked)
		revoked = slices.AppendSeq(revoked, h.streams.under(e.UserKey))
		h.config.Logger.Info("streams revoked", slog.Int("streams", len(revoked)-before), slog.String("reason", e.Disconnect))
	}
	return revoked
}

// handOverLocked hands the deliveries to their streams, and returns for each
// stream the first one that it did not take: what comes after it would come out
// of order. The caller holds sending.
func (h *hub) handOverLocked(rows []store.Notification) (refused []delivery) {
	var full map[*stream]bool // made when the first one is
	h.events.begin(len(rows), h.previous)
	for _, d := range h.deliveries {
		if full[d.to] || !d.notLoaded && (d.to.out.Send(h.eventLocked(d, rows)) || d.droppable) {
			continue
		}
		if full == nil {
			full = map[*stream]bool{}
		}
		full[d.to] = true
		refused = append(refused, d)
	}
	clear(h.deliveries) // so that they hold nothing until they are written over
	h.deliveries = h.deliveries[:0]
	h.events.reset()
	return refused
}

// eventLocked returns the event of a delivery, encoded. The caller holds sending.
func (h *hub) eventLocked(d delivery, rows []store.Notification) *event {
	if d.event != nil {
		return d.event
	}
	return h.events.row(d.row, d.at, &rows[d.row])
}

// report says in the log and the metrics which rows of a delivered batch could
// not be sent as they are.
func (h *hub) report(entries []store.Entry, rows []store.Notification) {
	for _, e := range entries {
		if e.UserKey == "" && e.Disconnect == "" {
			h.config.Logger.Warn("notification without a recipient", "item_id", e.ItemID)
		}
	}
	for i := range rows {
		n := &rows[i]
		switch {
		case errors.Is(n.Err, store.ErrRowTimeout):
			h.config.Logger.Warn("notification is late", "item_id", n.ItemID)
		case n.Err != nil:
			h.config.Logger.Warn("notification cannot be read", "item_id", n.ItemID, "err", n.Err)
		case n.Data == nil:
			// Deleted, given to somebody else, or never to be found: gateway check finds out.
			h.metrics.unknown.Inc()
			h.config.Logger.Debug("notification is gone", "item_id", n.ItemID)
		}
	}
}

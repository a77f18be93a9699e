package store

// Cursors of one incarnation are partially ordered: a cursor may have seen a
// transaction that another has not, and the other one that it has not. Two
// replicas that lag behind differently give out such cursors.

// SameIncarnation reports whether c and o are positions in the same incarnation
// of the same installation, so that their transaction IDs can be compared.
func (c Cursor) SameIncarnation(o Cursor) bool { return c.sameLife(o) }

// Sees reports whether a client at c has the row of e already. e must be of the
// incarnation of c.
func (c Cursor) Sees(e Entry) bool { return c.sees(e) }

// Ahead reports whether a client at c may have rows that a client at o has not.
// Positions of different incarnations cannot be compared, and neither is ahead.
func (c Cursor) Ahead(o Cursor) bool {
	if !c.sameLife(o) {
		return false
	}
	return !o.snapshot.includes(c.snapshot) || !o.sees(Entry{XID: c.place.xid, Position: c.place.position})
}

// Union returns the position of a client that has everything of c and of o. It
// is c where they are of different incarnations. A cursor can name a place
// inside one transaction only. Where c and o are inside different ones the union
// is inside that of c: then it claims less than both together, and a client that
// resumes gets some rows again.
func (c Cursor) Union(o Cursor) Cursor {
	if !c.sameLife(o) {
		return c
	}
	places := [...]Place{c.place, o.place}
	if o.at.After(c.at) {
		c.at = o.at // a row that neither sees was committed after both
	}
	c.snapshot, c.place = c.snapshot.with(o.snapshot), Place{}
	for _, p := range places {
		switch {
		case c.snapshot.Sees(p.xid): // the whole transaction is seen, or there is no place
		case c.place == Place{}, c.place.xid == p.xid && c.place.position < p.position:
			c.place = p
		}
	}
	return c
}

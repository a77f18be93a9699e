package store

import "time"

// positions are those that the feed has had, oldest first, positionEvery apart
// and back to the failoverWindow. They say which transactions had ended by a moment,
// where the database does not record its lives.
type positions []Cursor

const positionEvery = 10 * time.Second

// add remembers a position and forgets those that no question will need.
func (p *positions) add(c Cursor) {
	if n := len(*p); n > 0 && c.at.Sub((*p)[n-1].at) < positionEvery {
		return
	}
	*p = append(*p, c)
	for len(*p) > 1 && !(*p)[1].at.After(c.at.Add(-failoverWindow-positionEvery)) {
		*p = (*p)[1:]
	}
}

// endedBy returns a transaction ID: all below it had ended by then, so that
// what they inserted is older, and a standby that had followed until then hands
// none of them out again. It is 0 where the positions do not go back so far.
func (p positions) endedBy(then time.Time) uint64 {
	var oldest uint64
	for _, c := range p {
		if c.at.After(then) {
			break
		}
		oldest = c.snapshot.oldest()
	}
	return oldest
}

package store

import "time"

// marks are positions that the feed has had, oldest first, some seconds apart
// and back to the guard. They say which transactions had ended by a moment.
type marks []Cursor

const markEvery = 10 * time.Second

// add remembers a position and forgets those that no question will need.
func (m *marks) add(c Cursor) {
	if n := len(*m); n > 0 && c.at.Sub((*m)[n-1].at) < markEvery {
		return
	}
	*m = append(*m, c)
	for len(*m) > 1 && !(*m)[1].at.After(c.at.Add(-guard-markEvery)) {
		*m = (*m)[1:]
	}
}

// endedBy returns a transaction ID: all below it had ended by then, so that
// what they inserted is older, and a standby that had followed until then hands
// none of them out again. It is 0 where the marks do not go back so far.
func (m marks) endedBy(then time.Time) uint64 {
	var oldest uint64
	for _, c := range m {
		if c.at.After(then) {
			break
		}
		oldest = c.snapshot.oldest()
	}
	return oldest
}

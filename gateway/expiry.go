package gateway

import "container/heap"

// expiry holds the streams whose token expires, the next one first. A stream
// costs it two words.
type expiry []*stream

func (x *expiry) add(s *stream) {
	if s.expires != 0 {
		heap.Push(x, s)
	}
}

func (x *expiry) remove(s *stream) {
	if s.expires != 0 {
		heap.Remove(x, int(s.due))
	}
}

// expired returns the streams whose token has expired at a Unix second.
func (x expiry) expired(second int64) []*stream {
	var out []*stream
	for next := []int{0}; len(next) > 0; { // the heap's top, as far as it is due
		i := next[0]
		next = next[1:]
		if i < len(x) && x[i].expires <= second {
			out = append(out, x[i])
			next = append(next, 2*i+1, 2*i+2)
		}
	}
	return out
}

// Len and the rest make an expiry a heap.Interface.
func (x expiry) Len() int           { return len(x) }
func (x expiry) Less(i, j int) bool { return x[i].expires < x[j].expires }

func (x expiry) Swap(i, j int) {
	x[i], x[j] = x[j], x[i]
	x[i].due, x[j].due = int32(i), int32(j)
}

// Push is called by the heap alone.
func (x *expiry) Push(s any) {
	added := s.(*stream)
	added.due = int32(len(*x))
	*x = append(*x, added)
}

// Pop is called by the heap alone.
func (x *expiry) Pop() any {
	last := len(*x) - 1
	s := (*x)[last]
	(*x)[last] = nil
	*x = (*x)[:last]
	return s
}

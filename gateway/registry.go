package gateway

import "iter"

// everybodyKey is the key that each stream stands under.
const everybodyKey = "*"

// registry finds the open streams by key. A stream stands under its recipient's
// key, under the keys of its groups, and under everybodyKey. It is guarded by
// hub.mu.
type registry struct {
	recipients map[string][]*stream            // by the recipient's key, the oldest first; every open stream stands here once
	groups     map[string]map[*stream]struct{} // by the key of a group; a set, because a group may be large
}

func newRegistry() registry {
	return registry{recipients: map[string][]*stream{}, groups: map[string]map[*stream]struct{}{}}
}

func (r *registry) add(s *stream) {
	key := s.recipient.UserKey
	r.recipients[key] = append(r.recipients[key], s)
	for _, key := range s.groups {
		members := r.groups[key]
		if members == nil {
			members = map[*stream]struct{}{}
			r.groups[key] = members
		}
		members[s] = struct{}{}
	}
}

func (r *registry) remove(s *stream) {
	key := s.recipient.UserKey
	all := r.recipients[key]
	for i, other := range all {
		if other == s {
			copy(all[i:], all[i+1:])
			all[len(all)-1] = nil
			all = all[:len(all)-1]
			break
		}
	}
	r.recipients[key] = all
	if len(all) == 0 {
		delete(r.recipients, key)
	}
	for _, key := range s.groups {
		delete(r.groups[key], s)
		if len(r.groups[key]) == 0 {
			delete(r.groups, key)
		}
	}
}

// groupKeys returns how many keys have streams beside those whose own they are.
func (r *registry) groupKeys() int { return len(r.groups) }

// of returns the streams that stand under a recipient's own key, the oldest
// first. The slice is the registry's.
func (r *registry) of(recipient string) []*stream { return r.recipients[recipient] }

// all goes through every open stream.
func (r *registry) all() iter.Seq[*stream] {
	return func(yield func(*stream) bool) {
		for _, streams := range r.recipients {
			for _, s := range streams {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// under goes through the streams that stand under a key, each once.
func (r *registry) under(key string) iter.Seq[*stream] {
	return func(yield func(*stream) bool) {
		if key == everybodyKey {
			r.all()(yield)
			return
		}
		for _, s := range r.recipients[key] {
			if !yield(s) {
				return
			}
		}
		for s := range r.groups[key] {
			if !yield(s) {
				return
			}
		}
	}
}

// shared reports whether streams of several recipients may stand under a key, so
// that one stream may match several keys of a batch.
func (r *registry) shared(key string) bool {
	return key == everybodyKey || len(r.groups[key]) > 0
}

//go:build !linux

package main

import "errors"

// crowd is for Linux alone: it stands on epoll.
type crowd struct{}

func newCrowd(crowdTask) (*crowd, error) {
	return nil, errors.New("holding many streams needs Linux")
}

func (*crowd) do(crowdTask) counts { return counts{} }
func (*crowd) close()              {}

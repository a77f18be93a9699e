//go:build !linux

package main

// newCrowd holds streams with goroutines: there is no epoll.
func newCrowd(begin crowdTask) (holder, error) { return newReaders(begin), nil }

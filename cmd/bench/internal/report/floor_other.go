//go:build !linux

package report

import (
	"errors"
	"io"
)

// RunFloor fails: the floor needs epoll.
func RunFloor(io.Writer) error { return errors.New("the floor needs Linux") }

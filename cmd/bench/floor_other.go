//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
)

func floorChild(context.Context, []string, io.Writer, io.Writer) error {
	return errors.New("the floor needs Linux")
}

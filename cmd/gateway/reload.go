package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

const (
	reloadInterval = 5 * time.Second // a rotation is noticed within it
	maxFile        = 1 << 20         // bytes: a certificate with its chain has some ten thousand
)

// watched are files of which something is made together: a certificate and
// its key, or one secret.
type watched struct {
	variable string // what names the files; for the log
	paths    []string
	take     func(contents [][]byte) error // its error keeps what was, and never holds the contents

	judged bool
	hash   [sha256.Size]byte // of the contents that take judged last
}

// reloader reads files again, so that secrets and certificates rotate without
// a restart. It compares contents, not times: a mounted Kubernetes secret
// changes by a symbolic link, and two writes may fall into one tick of a file
// system's clock. What cannot be used is logged once and the old stays.
type reloader struct {
	logger *slog.Logger
	files  []*watched // owned by run once it has begun
}

// run looks at the files until ctx ends, and returns its cause.
func (r *reloader) run(ctx context.Context) error {
	tick := time.NewTicker(reloadInterval)
	defer tick.Stop()
	for {
		for _, w := range r.files {
			r.look(w)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// look has w taken over if its contents are others than those judged last. The
// first look tells nobody: it only closes the gap since the start's own reading.
func (r *reloader) look(w *watched) {
	first := !w.judged
	changed, err := w.reread()
	switch {
	case err != nil:
		r.logger.Warn("changed file not taken over, the old content stays", "variable", w.variable, "err", err)
	case changed && !first:
		r.logger.Info("changed file taken over", "variable", w.variable)
	}
}

// reread takes the contents over unless they were judged already. That they
// cannot be read is told once, too.
func (w *watched) reread() (changed bool, err error) {
	contents := make([][]byte, len(w.paths))
	h := sha256.New()
	for i, path := range w.paths {
		var e error
		if contents[i], e = readFile(path); err == nil {
			err = e // of two files that are missing, one is told after the other
		}
		fmt.Fprintf(h, "%d %v\n", len(contents[i]), e)
		h.Write(contents[i])
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	if w.judged && sum == w.hash {
		return false, nil
	}
	w.judged, w.hash = true, sum
	if err == nil {
		err = w.take(contents)
	}
	return err == nil, err
}

// readFile has the path in each of its errors.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxFile {
		return nil, &os.PathError{Op: "read", Path: path, Err: fmt.Errorf("the file has more than %d bytes", maxFile)}
	}
	return content, nil
}

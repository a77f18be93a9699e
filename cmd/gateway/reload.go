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
	settleInterval = time.Second     // a changed file must stay the same for so long
	maxFile        = 1 << 20         // bytes: a certificate with its chain has some ten thousand
)

// watched are files of which something is made together: a certificate and
// its key, or one secret.
type watched struct {
	variable string // what names the files; for the log
	paths    []string
	take     func(contents [][]byte) error // its error keeps what was, and never holds the contents

	began  bool              // the files were read once
	seen   [sha256.Size]byte // hash of the contents at the last look
	judged [sha256.Size]byte // hash of the contents that take saw last
}

// reloader reads files again, so that secrets and certificates rotate without
// a restart. It compares contents, not times: a mounted Kubernetes secret
// changes by a symbolic link, and two writes may fall into one tick of a file
// system's clock. A file that is being written may hold the beginning of a
// secret, so changed contents are used only when the next look finds them
// unchanged. What cannot be used is logged once, and the old stays.
type reloader struct {
	logger *slog.Logger
	files  []*watched       // owned by run once it has begun
	hangup <-chan os.Signal // nil, or brings SIGHUP
	also   func()           // called on SIGHUP too; nil is nothing
}

// run looks at the files until ctx ends, and returns its cause. SIGHUP makes it
// look at once and use what it finds: it is sent when the files are complete.
func (r *reloader) run(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		asked := false
		select {
		case <-pause.C:
		case <-r.hangup:
			asked = true
			r.logger.Info("SIGHUP: files are read again", "files", len(r.files))
			if r.also != nil {
				r.also()
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		next := reloadInterval
		for _, w := range r.files {
			if settled := r.look(w, asked); !settled {
				next = settleInterval
			}
		}
		pause.Reset(next)
	}
}

// look has w's files used if their contents are not those that were judged last.
// It reports false when they must be looked at again soon. The first look logs
// no success: it only closes the gap since the start's own reading.
func (r *reloader) look(w *watched, asked bool) (settled bool) {
	first := !w.began
	settled, changed, err := w.reread(asked)
	switch {
	case err != nil:
		r.logger.Warn("changed file not taken over, the old content stays", "variable", w.variable, "err", err)
	case changed && !first:
		r.logger.Info("changed file taken over", "variable", w.variable)
	}
	return settled
}

// reread judges the contents, unless they were judged already or have changed
// since the last look; asked means that they need not stay the same first. An
// error of reading counts as contents, so that it is told once, too.
func (w *watched) reread(asked bool) (settled, changed bool, err error) {
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
	same := w.began && sum == w.seen
	judge := asked || same || !w.began
	w.seen = sum
	if w.began && sum == w.judged {
		return true, false, nil
	}
	if !judge {
		return false, false, nil
	}
	w.began, w.judged = true, sum
	if err == nil {
		err = w.take(contents)
	}
	return true, err == nil, err
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

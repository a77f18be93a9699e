package swarm

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// clients hold the streams of one worker. There are two kinds: epollClients,
// and readers.
type clients interface {
	// do starts a task and returns the counts without waiting for its end.
	do(task) Counts
	close()
}

// readers hold each stream with a goroutine. They serve TLS, which keeps a state
// for each connection anyway, and systems without epoll. A stream costs tens of
// KB, and several times the CPU that it costs with epollClients.
type readers struct {
	begin    task
	began    time.Time
	dialer   net.Dialer
	settings *tls.Config   // nil without TLS
	slots    chan struct{} // capacity: connections that wait for their answer at once
	running  sync.WaitGroup

	mu      sync.Mutex
	streams []*reader // guarded by mu
	tokens  []string  // guarded by mu
	counts  Counts    // guarded by mu
}

// reader is one life of one stream.
type reader struct {
	silent bool
	gone   chan struct{} // closed when it is cut

	// guarded by readers.mu
	scanner scanner
	conn    net.Conn // nil until it is made
	open    bool
	cut     bool // by us
}

func newReaders(begin task) *readers {
	r := &readers{begin: begin, began: time.Now(), slots: make(chan struct{}, begin.InFlight), dialer: net.Dialer{Timeout: StallTimeout}}
	if begin.TLS {
		name, _, err := net.SplitHostPort(begin.Host)
		if err != nil {
			name = begin.Host
		}
		// Only HTTP/1.1 is offered: its bytes are what the scanner reads.
		r.settings = &tls.Config{ServerName: name, InsecureSkipVerify: begin.Insecure, NextProtos: []string{"http/1.1"}} // the operator asked for it
	}
	return r
}

func (r *readers) do(t task) Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(t.Tokens) > 0 {
		r.tokens = t.Tokens
	}
	switch t.Do {
	case taskOpen:
		for range t.Streams {
			r.streams = append(r.streams, &reader{silent: t.Silent, gone: make(chan struct{})})
			r.startLocked(len(r.streams) - 1)
		}
	case taskDrop:
		r.counts.Dropped = min(t.Streams, len(r.streams))
		for _, s := range r.streams[:r.counts.Dropped] {
			r.cutLocked(s)
		}
	case taskResume:
		for i, s := range r.streams[:r.counts.Dropped] {
			r.streams[i] = &reader{silent: s.silent, gone: make(chan struct{}), scanner: scanner{id: s.scanner.id}}
			r.startLocked(i)
		}
		r.counts.Dropped = 0
	}
	r.counts.Wanted = len(r.streams) - r.counts.Dropped
	answer := r.counts
	if answer.Pings = nil; t.Do == taskPings {
		answer.Pings = append(answer.Pings, r.counts.Pings...)
	}
	return answer
}

func (r *readers) close() {
	r.mu.Lock()
	for _, s := range r.streams {
		r.cutLocked(s)
	}
	r.mu.Unlock()
	r.running.Wait()
}

// cutLocked closes a stream. The caller holds mu.
func (r *readers) cutLocked(s *reader) {
	if s.cut {
		return
	}
	if s.open {
		r.counts.Open--
	}
	s.open, s.cut = false, true
	close(s.gone)
	if s.conn != nil {
		s.conn.Close() // its reader sees it
	}
}

// startLocked starts the goroutine of stream i. The caller holds mu.
func (r *readers) startLocked(i int) {
	s := r.streams[i]
	s.scanner.counted = r.begin.Counted
	var token string
	if len(r.tokens) > 0 {
		token = r.tokens[(r.begin.First+i)%len(r.tokens)]
	}
	request := r.begin.request(token, s.scanner.id)
	r.running.Go(func() {
		err := r.follow(s, request)
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case s.cut:
			return
		case s.open:
			r.counts.Ended++
			r.counts.Open--
		case s.scanner.status != 0:
			r.counts.Refused++
			if s.scanner.status != 200 {
				r.counts.Status = cmp.Or(r.counts.Status, s.scanner.status)
			}
		default:
			r.counts.Failed++
		}
		s.open = false
		if r.counts.Why == "" {
			r.counts.Why = s.scanner.why(err.Error())
		}
	})
}

// follow connects, asks and reads until the stream ends, and says why it did.
func (r *readers) follow(s *reader, request string) error {
	r.slots <- struct{}{}
	answered := sync.OnceFunc(func() { <-r.slots })
	defer answered()
	conn, err := r.connect(s)
	if err != nil {
		return err
	}
	defer conn.Close() // the stream is over
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	for buffer := make([]byte, 4096); ; {
		n, err := conn.Read(buffer)
		if err == nil || n > 0 {
			err = errors.Join(err, r.count(s, buffer[:n]))
		}
		if err != nil {
			return err
		}
		if s.scanner.status == 0 {
			continue // only this goroutine changes it
		}
		answered()
		if s.silent {
			<-s.gone // a client that does not read does not see its end either
			return io.EOF
		}
	}
}

// connect makes the connection, unless the stream was cut meanwhile.
func (r *readers) connect(s *reader) (net.Conn, error) {
	conn, err := r.dialer.DialContext(context.Background(), "tcp", r.begin.Address)
	if err != nil {
		return nil, err
	}
	if r.settings != nil {
		conn = tls.Client(conn, r.settings)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.conn = conn; s.cut {
		conn.Close() // nothing was sent
		return nil, net.ErrClosed
	}
	return conn, nil
}

// count counts what was read.
func (r *readers) count(s *reader, b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.cut {
		return net.ErrClosed
	}
	r.counts.Bytes += int64(len(b))
	pings := r.counts.Events[Ping]
	if err := s.scanner.feed(b, &r.counts.Events); err != nil {
		return err
	}
	r.counts.pinged(time.Since(r.began), r.counts.Events[Ping]-pings)
	switch {
	case s.scanner.status == 0 || s.open:
	case s.scanner.status != 200:
		return errors.New("status " + strconv.Itoa(s.scanner.status))
	case !s.scanner.events:
		return errNoStream
	default:
		s.open = true
		r.counts.Open++
		r.counts.Opened++
	}
	if s.scanner.ended {
		return io.EOF
	}
	return nil
}

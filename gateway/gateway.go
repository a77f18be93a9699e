package gateway

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store"
)

// Source is what the gateway needs of Postgres. *store.Store is one.
type Source interface {
	ParseCursor(text string) (store.Cursor, error)
	Load(ctx context.Context, entries []store.Entry) ([]store.Notification, error)
	Replay(ctx context.Context, reader store.Reader, from, to store.Cursor, after store.Place, rows, bytes int) (store.Page, error)
	Unread(ctx context.Context, userKey string, limit int) (store.UnreadList, error)
	LoadPage(ctx context.Context, entries []store.Entry, bytes int) ([]store.Notification, error)
	Recipient(ctx context.Context, subject string) (store.Recipient, error)
	CountUnread(ctx context.Context, userKey string) (n int, more bool, err error)
}

// Verifier says whom a token names. *auth.Verifier is one.
type Verifier interface {
	Verify(ctx context.Context, token string) (auth.Identity, error)
}

// Config is the gateway's configuration. Every field is required, except those
// whose zero has a meaning.
type Config struct {
	PathPrefix        string         // in front of /stream/ and /session/, without a last slash
	PingInterval      time.Duration  // between two pings of a stream
	MaxStreams        int            // in all
	MaxStreamsPerUser int            // past it the oldest is ended
	CursorRefresh     time.Duration  // an idle stream is told a fresh cursor this often; well below the retention
	Retention         time.Duration  // rows older than it may be gone from the log; zero: none ever are
	CountRefresh      time.Duration  // how often a count of unread notifications is asked for again though nothing changed; zero: never
	StreamBuffer      int            // bytes that may wait for one client
	ReplayLimit       int            // unread notifications that one replay brings; and rows in a page of a replay at the most
	Drain             time.Duration  // how long streams may take to be ended
	AllowedOrigins    []string       // origins that CanonicalOrigin takes; none by default
	CookieName        string         // the session cookie
	CookieInsecure    bool           // the cookie also goes over plain HTTP
	TrustedProxies    []netip.Prefix // whose X-Forwarded-For counts; none by default
	ConnectsPerMinute int            // for one address; zero is no limit
	Logger            *slog.Logger

	// Login makes the CRM say whom requests name that have no token; nil: tokens alone.
	Sessions Sessions // tells the other replicas of sign-outs; nil: there are none
	Login    *Login

	// Files are served below PathPrefix by their names; nil serves none. They
	// are the browser module, which the gateway gives to pages.
	Files map[string][]byte
}

// reconnectionTime is what clients are told to wait before they reconnect; the
// jitter keeps a herd from coming back in step.
const reconnectionTime = 3 * time.Second

func (c Config) retry() time.Duration {
	return reconnectionTime*3/4 + rand.N(reconnectionTime/2)
}

// Gateway serves event streams. The caller runs it, delivers to it and drains
// it; its handler may be used at once.
type Gateway struct {
	config        Config
	source        Source
	verifier      Verifier
	metrics       *metrics
	hub           *hub
	limiter       *limiter
	poller        *poller // nil where connections cannot be taken over from net/http
	handshakes    *handshakes
	origins       origins
	fullness      fullness
	sessionKey    *sessionKey
	sessionWrites sessionWrites
	files         map[string]*staticFile // by path
}

// New makes a gateway. It panics, as the registerer does, when its metrics are
// registered twice.
func New(config Config, source Source, verifier Verifier, registerer prometheus.Registerer) *Gateway {
	m := newMetrics(registerer)
	g := &Gateway{
		config: config, source: source, verifier: verifier, metrics: m,
		hub: newHub(config, source, m), limiter: newLimiter(config.ConnectsPerMinute, config.TrustedProxies),
		handshakes: newHandshakes(), origins: newOrigins(config.AllowedOrigins), fullness: fullness{max: config.MaxStreams}, sessionKey: newSessionKey(), files: makeFiles(config.Files, config.PathPrefix),
	}
	var err error
	if g.poller, err = newPoller(config.StreamBuffer, config.Logger, m.written, g.handshakes.release); err != nil {
		config.Logger.Warn("connections stay with net/http, and streams cost more memory", "err", err)
	}
	return g
}

// Handler serves the public routes.
func (g *Gateway) Handler() http.Handler { return http.HandlerFunc(g.serveHTTP) }

// Deliver brings a batch to the streams of its users. One goroutine calls it,
// one batch after the other. Its error means that nothing of the batch was
// delivered: the caller must bring it again.
func (g *Gateway) Deliver(ctx context.Context, batch store.Batch) error {
	return g.hub.deliver(ctx, batch)
}

// Streams returns how many streams are open.
func (g *Gateway) Streams() int {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	return g.hub.open
}

// ConnState follows a server's connections, for http.Server.ConnState. It makes
// the server accept no faster than requests are answered, see handshakes.
func (g *Gateway) ConnState(c net.Conn, state http.ConnState) { g.handshakes.follow(c, state) }

// Run watches the connections that were taken over from net/http, sends pings and
// ends streams whose token has expired, until ctx ends. What is still open then
// is closed. It returns ctx's cause.
func (g *Gateway) Run(ctx context.Context) error {
	if g.poller == nil {
		defer g.hub.awaitFallenBehind()
		var counting sync.WaitGroup
		counting.Go(func() { g.hub.runCounts(ctx) })
		defer counting.Wait()
		return g.runPings(ctx)
	}
	var helping sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	helping.Go(func() { g.runPings(ctx) })
	helping.Go(func() { g.hub.runCounts(ctx) })
	err := g.poller.run(ctx)
	cancel(err)
	helping.Wait()
	g.hub.awaitFallenBehind()
	return err
}

func (g *Gateway) runPings(ctx context.Context) error {
	pings := time.NewTicker(g.hub.wheel.tick)
	defer pings.Stop()
	var trimmer heapTrimmer
	for {
		select {
		case now := <-pings.C:
			g.hub.tick(now)
			trimmer.tick(g.hub.streamChurn())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

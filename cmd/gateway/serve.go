package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/deploy/web"
	"github.com/seed-64e334f9/notification-gateway/gateway"
	"github.com/seed-64e334f9/notification-gateway/store"
)

const (
	headerDeadline = 10 * time.Second // a client that sends its header slower than this is cut off
	idleDeadline   = 60 * time.Second // between two requests of one connection, which a proxy keeps
	maxHeader      = 16 << 10         // bytes, with the query: a token of 8 KiB, a cursor of 1.4 KB and a browser's own
	stopDeadline   = 5 * time.Second  // for requests still under way when a part has failed
)

// serve runs the gateway until ctx ends, then drains.
func serve(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	if _, err := parseFlags(fs, "gateway serve (configured by the environment; see the table in deploy/README.md)", args, 0, stdout); err != nil {
		return err
	}
	// SIGHUP would end the process, and with it every stream.
	hangup := make(chan os.Signal, 1) // capacity: one pending signal is enough, everything is read again
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	c, err := readConfig()
	if err == nil {
		err = c.validateServe()
	}
	if err != nil {
		return usageError{err}
	}
	logger := newLogger(c, stderr)
	s, err := assemble(ctx, c, logger)
	if err != nil {
		return err
	}
	defer s.store.Close()
	s.files.hangup, s.files.also = hangup, s.verifier.RefreshSoon
	warnOpenFiles(c, logger)
	warnMemory(c, processMemoryLimit(), logger)
	for _, name := range unknownVariables() {
		logger.Warn("unknown variable", "variable", name)
	}
	for name, url := range c.databaseURLs() {
		if dropped, err := store.CheckURL(url); err == nil && len(dropped) > 0 {
			logger.Warn("parameters of a connection string have no effect here", "variable", name, "parameters", dropped)
		}
	}
	return s.run(ctx)
}

// source is Postgres as the gateway sees it: whom a token names is remembered.
type source struct {
	*store.Store
	directory *store.RecipientCache
	canaries  *canaryKey
}

func (s source) Recipient(ctx context.Context, subject string) (store.Recipient, error) {
	if canary, ok := s.canaries.read(subject, time.Now()); ok {
		return store.Recipient{UserKey: store.CanaryPrefix + canary}, nil
	}
	return s.directory.Recipient(ctx, subject)
}

// service is everything that runs, wired.
type service struct {
	config    config
	logger    *slog.Logger
	registry  *prometheus.Registry
	store     *store.Store
	directory *store.RecipientCache
	identity  *store.IdentityView
	feed      *store.Feed
	verifier  *auth.Verifier
	crm       *auth.CRM // nil without GATEWAY_AUTH_URL
	canaries  *canaryKey
	gateway   *gateway.Gateway
	public    *http.Server
	files     *reloader
	draining  chan struct{} // closed when the drain begins
}

// assemble wires the parts. It connects to nothing: Postgres and the key
// server may still be down.
func assemble(ctx context.Context, c config, logger *slog.Logger) (*service, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	registry.MustRegister(c.limits()...)
	st, err := store.Open(ctx, store.Config{
		URL: c.DatabaseURL, ListenURL: c.ListenDatabaseURL, Retention: c.Retention,
		Recipients: store.RecipientMode(c.Recipient), Logger: logger, Metrics: store.NewMetrics(registry),
	})
	if err != nil {
		return nil, usageError{fmt.Errorf("DATABASE_URL: %w", err)}
	}
	feed, err := store.NewFeed(st)
	if err != nil {
		return nil, usageError{fmt.Errorf("GATEWAY_LISTEN_DATABASE_URL: %w", err)}
	}
	verifier, err := auth.New(c.verifier(logger))
	if err != nil {
		return nil, usageError{fmt.Errorf("token verification: %w", err)}
	}
	verifier.Register(registry)
	crm, err := c.crm()
	if err != nil {
		return nil, err
	}
	directory, canaries := store.NewRecipientCache(st), &canaryKey{}
	gw := gateway.New(gateway.Config{
		PathPrefix: c.PathPrefix, PingInterval: c.PingInterval, CursorRefresh: min(time.Hour, c.Retention/4), Retention: c.Retention, MaxStreams: c.MaxStreams,
		MaxStreamsPerUser: c.MaxStreamsPerUser, StreamBuffer: c.StreamBuffer, ReplayLimit: c.ReplayLimit, CountRefresh: c.RecipientCheck,
		Drain: c.Drain - notice(c.Drain), AllowedOrigins: c.AllowedOrigins, CookieName: c.Cookie, CookieInsecure: c.CookieInsecure,
		TrustedProxies: c.proxies, ConnectsPerMinute: c.ConnectsPerMinute, Logger: logger, Login: newLogin(crm, st, registry), Sessions: st,
		Files: web.Files(),
	}, source{st, directory, canaries}, canaryVerifier{verifier, canaries}, registry)
	public := &http.Server{
		Handler: gw.Handler(), ReadHeaderTimeout: headerDeadline, IdleTimeout: idleDeadline,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		// OPTIONS * would be answered without our bounds.
		DisableGeneralOptionsHandler: true,
	}
	keep := keepFiles(openFileLimit())
	public.ConnState = func(c net.Conn, state http.ConnState) {
		keep(c, state)
		gw.ConnState(c, state)
	}
	files := &reloader{logger: logger, files: c.watchSecrets(verifier)}
	if c.TLSCert != "" {
		settings, pair, err := watchTLS(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, usageError{fmt.Errorf("GATEWAY_TLS_CERT, GATEWAY_TLS_KEY: %w", err)}
		}
		public.TLSConfig = settings
		files.files = append(files.files, pair)
	}
	return &service{
		config: c, logger: logger, registry: registry, store: st, directory: directory, identity: store.NewIdentityView(st), feed: feed, verifier: verifier, crm: crm, canaries: canaries,
		gateway: gw, public: public, files: files, draining: make(chan struct{}),
	}, nil
}

// run listens, starts every part and waits for each. It returns nil after a
// clean drain.
func (s *service) run(ctx context.Context) error {
	listener, err := listen(ctx, s.config.Addr)
	if err != nil {
		return fmt.Errorf("GATEWAY_ADDR: %w", err)
	}
	adminListener, err := net.Listen("tcp", s.config.AdminAddr)
	if err != nil {
		listener.Close()
		return fmt.Errorf("GATEWAY_ADMIN_ADDR: %w", err)
	}
	admin := &http.Server{Handler: s.adminHandler(adminListener.Addr()), ReadHeaderTimeout: headerDeadline, IdleTimeout: idleDeadline, MaxHeaderBytes: maxHeader, ErrorLog: s.public.ErrorLog}

	// The parts outlive ctx: streams go on receiving while they are drained.
	parts, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	all := newGroup()
	start := func(what string, part func(context.Context) error) { all.start(parts, what, part) }
	start("feed", func(ctx context.Context) error { return s.feed.Run(ctx, s.gateway) })
	start("gateway", s.gateway.Run)
	start("key set", s.verifier.Run)
	start("prune", s.store.Prune)
	start("identity", s.identity.Run)
	start("files", s.files.run)
	if s.config.Recipient != "claim" && s.config.RecipientCheck > 0 {
		start("recipients", func(ctx context.Context) error {
			return s.gateway.CheckRecipients(ctx, s.directory, s.config.RecipientCheck)
		})
	}
	start("session key", func(ctx context.Context) error { return keepSessionKey(ctx, s.store, s.logger, s.useSessionKey) })
	if s.crm != nil {
		if s.config.RecipientCheck > 0 {
			start("logins", func(ctx context.Context) error { return s.gateway.CheckLogins(ctx, s.config.RecipientCheck) })
		}
	}
	start("public listener", func(context.Context) error {
		if s.config.TLSCert != "" {
			return s.public.ServeTLS(listener, "", "")
		}
		return s.public.Serve(listener)
	})
	start("admin listener", func(context.Context) error { return admin.Serve(adminListener) })
	s.logger.Info("listening", "addr", listener.Addr().String(), "tls", s.config.TLSCert != "")
	s.logger.Info("admin listening", "addr", adminListener.Addr().String())
	systemd := newNotifier(os.Getenv("NOTIFY_SOCKET"), s.logger)
	systemd.send("READY=1")
	start("status", func(ctx context.Context) error { return systemd.keepStatus(ctx, s.status) })

	var end time.Time
	select {
	case <-all.failed:
		err = all.err
		systemd.stopping(stopDeadline)
		end = time.Now().Add(stopDeadline)
	case <-ctx.Done():
		systemd.stopping(max(s.config.Drain, lastWrites))
		end = s.drain(parts)
	}
	ending, cancel := context.WithDeadline(parts, end)
	defer cancel()
	if e := s.public.Shutdown(ending); e != nil {
		s.public.Close() // nothing more can be done for those requests
	}
	admin.Close() // scrapes may be cut off
	stop(context.Canceled)
	all.wait()
	s.logger.Info("stopped")
	return err
}

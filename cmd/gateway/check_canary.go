package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

const (
	canaryConnect = 5 * time.Second  // for the answer of the gateway, and for the first event
	canaryArrival = 10 * time.Second // for the canary: a gateway that nobody rings polls every five seconds
)

// mendedError is what went wrong with a canary, and what to do.
type mendedError struct {
	error
	mend string
}

func (e mendedError) Unwrap() error { return e.error }

// checkCanary captures a notification that is nobody's, waits for it at a stream of a
// running gateway, and takes it away again. Its error is one of at.
func checkCanary(ctx context.Context, c config, at string) (schema.Finding, error) {
	f := schema.Finding{Name: "canary", Mend: "mend the lines above first"}
	address, err := canaryURL(c, at)
	if err != nil {
		return f, usageError{fmt.Errorf("--url: %w", err)}
	}
	if err := c.validateTokens(); err != nil {
		f.Detail = err.Error()
		return f, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*canaryConnect+canaryArrival)
	defer cancel()
	canary, err := schema.NewCanary(ctx, c.DatabaseURL)
	if err != nil {
		f.Detail, f.Mend = err.Error(), "run gateway migrate, with --grant-to for this role: a canary is the run-time role's"
		return f, nil
	}
	defer canary.Close(ctx)
	detail, err := sendCanary(ctx, c, canary, address)
	var mended mendedError
	switch {
	case errors.As(err, &mended):
		f.Detail, f.Mend = err.Error(), mended.mend
	case err != nil:
		f.Detail = err.Error()
	default:
		f.OK, f.Detail, f.Mend = true, detail, ""
	}
	return f, nil
}

// canaryURL is the address of the stream.
func canaryURL(c config, at string) (*url.URL, error) {
	prefix := strings.TrimRight(c.PathPrefix, "/")
	if at != "" {
		u, err := url.Parse(at)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, errors.New("must be an http or https URL such as https://crm.example, without a query")
		}
		if strings.Trim(u.Path, "/") != "" {
			prefix = strings.TrimRight(u.Path, "/")
		}
		u.Path = prefix + "/stream/"
		return u, nil
	}
	host, port, err := net.SplitHostPort(c.Addr)
	if err != nil || port == "" || port == "0" {
		return nil, errors.New("GATEWAY_ADDR has no port to connect to: say where the gateway is")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	u := &url.URL{Scheme: "http", Host: net.JoinHostPort(host, port), Path: prefix + "/stream/"}
	if c.TLSCert != "" {
		u.Scheme = "https"
	}
	return u, nil
}

// sendCanary opens the stream first, and captures when it is connected: so the canary
// arrives live. It is taken away whatever became of it.
func sendCanary(ctx context.Context, c config, canary *schema.Canary, at *url.URL) (detail string, err error) {
	began := time.Now()
	stream, how, err := openCanary(ctx, c, canary, at)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	events := make(chan canaryEvent)
	go readCanary(ctx, stream, events)
	await := func(within time.Duration, wanted func(canaryEvent) bool) error {
		for late := time.After(within); ; {
			select {
			case e := <-events:
				if e.err != nil || e.name == "error" {
					return fmt.Errorf("the stream ended: %w", errors.Join(e.err, errors.New(e.name+" "+e.data)))
				}
				if wanted(e) {
					return nil
				}
			case <-late:
				return context.DeadlineExceeded
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	if err := await(canaryConnect, func(e canaryEvent) bool { return e.name == "connected" }); err != nil {
		return "", mendedError{fmt.Errorf("a stream at %s has no first event within %v: %w", at, canaryConnect, err), "let what stands in front of the gateway pass each event on at once, see deploy/proxies"}
	}
	connected := time.Since(began)

	took, err := capture(ctx, canary)
	if err != nil {
		return "", mendedError{err, "run gateway migrate, with --grant-to for this role"}
	}
	captured := time.Now()
	arrived := await(canaryArrival, func(e canaryEvent) bool {
		var n struct {
			Type string `json:"notification_type"`
		}
		return e.name == "notification" && json.Unmarshal([]byte(e.data), &n) == nil && n.Type == store.CanaryType
	})
	travelled := time.Since(captured)

	// Also when nobody waits for it any more.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), canaryConnect)
	defer cancel()
	began = time.Now()
	if err := canary.TakeAway(ending); err != nil {
		return "", mendedError{err, "it is nobody's, and leaves the log with its retention; run check --canary again"}
	}
	if arrived != nil {
		return "", mendedError{
			fmt.Errorf("the stream at %s was open after %v and the canary captured in %v, but it did not arrive within %v: %w", at, connected.Round(time.Millisecond), took, canaryArrival, arrived),
			"ask that gateway's /readyz: its feed may be down, or it may follow another database; behind a proxy see deploy/proxies",
		}
	}
	return fmt.Sprintf("stream at %s open in %v, captured in %v, arrived after %v, taken away in %v; %s", at,
		connected.Round(10*time.Microsecond), took, travelled.Round(10*time.Microsecond), time.Since(began).Round(10*time.Microsecond), how), nil
}

func capture(ctx context.Context, canary *schema.Canary) (took time.Duration, err error) {
	began := time.Now()
	err = canary.Capture(ctx)
	return time.Since(began).Round(10 * time.Microsecond), err
}

// openCanary opens a stream for the canary. With a shared secret its pass stands in a
// token, so that this configuration's secret is seen to be that of the gateway. how
// says what was tried of the tokens.
func openCanary(ctx context.Context, c config, canary *schema.Canary, at *url.URL) (stream io.ReadCloser, how string, err error) {
	var key canaryKey
	key.set(canary.SessionKey)
	if key.key.Load() == nil {
		return nil, "", mendedError{errors.New("there is no session key"), "run gateway migrate"}
	}
	token := key.pass(canary.ID, time.Now())
	how = "not tried: a token, because none can be made without GATEWAY_JWT_SECRET; see --token"
	if len(c.secrets) > 0 {
		if minted, err := c.mint(token, canaryLife); err == nil { // else the recipient has several parts
			token, how = minted, "by a token of the shared secret"
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, "", err
	}
	r.Header.Set("Accept", "text/event-stream")
	if c.hasKeys() {
		r.Header.Set("Authorization", "Bearer "+token)
	} else { // an Authorization would be asked of the CRM
		r.URL.RawQuery = url.Values{"token": {token}}.Encode()
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, ResponseHeaderTimeout: canaryConnect, TLSHandshakeTimeout: canaryConnect}
	if at.Hostname() == "127.0.0.1" { // the certificate is for another name; a pass is worth nothing to anybody
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	} else {
		transport.Proxy = http.ProxyFromEnvironment
	}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // its URL may have the pass in it
		}
		return nil, "", mendedError{fmt.Errorf("no gateway answers at %s: %w", at, err), "start the gateway, or say where it is: --url https://crm.example"}
	}
	if resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp.Body, how, nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, healthAnswer)) // what came of it will do
	resp.Body.Close()
	mend := map[int]string{
		http.StatusUnauthorized:       "compare GATEWAY_JWT_SECRET and DATABASE_URL with those of the gateway there; an older version takes no canaries",
		http.StatusForbidden:          "compare DATABASE_URL with that of the gateway there; an older version takes no canaries",
		http.StatusNotFound:           "compare GATEWAY_PATH_PREFIX with that of the gateway there, or give --url with its path",
		http.StatusTooManyRequests:    "try again later: it counts the attempts from this address",
		http.StatusServiceUnavailable: "ask that gateway's /readyz",
	}[resp.StatusCode]
	if mend == "" {
		mend = "say where the gateway is: --url https://crm.example"
	}
	return nil, "", mendedError{fmt.Errorf("%s answers %d: %s", at, resp.StatusCode, strings.Join(strings.Fields(string(body)), " ")), mend}
}

// canaryEvent is an event of the stream, or why there are no more.
type canaryEvent struct {
	name, data string
	err        error
}

// readCanary sends the events of a stream until it ends or nobody waits.
func readCanary(ctx context.Context, stream io.Reader, events chan<- canaryEvent) {
	send := func(e canaryEvent) bool {
		select {
		case events <- e:
			return true
		case <-ctx.Done():
			return false
		}
	}
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 8<<20) // a row that is everybody's may be large
	var e canaryEvent
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch value = strings.TrimPrefix(value, " "); name {
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "":
			if !send(e) {
				return
			}
			e = canaryEvent{}
		}
	}
	err := lines.Err()
	if err == nil {
		err = io.EOF
	}
	send(canaryEvent{err: err})
}

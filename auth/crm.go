package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	askDeadline   = 5 * time.Second  // for one request to the CRM
	queueDeadline = 10 * time.Second // for a place among those that ask
	maxAsking     = 64               // requests to the CRM at a time
	maxAnswer     = 1 << 18          // bytes of its body, as of a key set's
)

// ErrCRMUnavailable is returned when the CRM could not say whom credentials name:
// it did not answer, or not in a form that is understood. The caller answers 503,
// and ends no stream for it.
var ErrCRMUnavailable = errors.New("the CRM could not be asked")

// CRMConfig is what a CRM needs.
type CRMConfig struct {
	URL     string   // the endpoint that is asked, see CheckCRMURL
	Field   string   // where in its answer the subject stands: a member's name or a JSON pointer (RFC 6901)
	Cookies []string // names of the cookies that go with a question
	Keys    bool     // a Verifier has keys, so that a Bearer token of three parts is for it
}

// CRM asks the CRM's own endpoint whom a request's cookies and Authorization name,
// for CRMs whose logins are no JWT. Its methods may be called from any goroutine.
type CRM struct {
	config  CRMConfig
	field   selector
	cookies map[string]bool
	client  *http.Client
	asking  chan struct{} // capacity maxAsking: one in it for each request under way
	answers answers
	hashKey []byte                      // of remembered answers; this process's own
	keys    atomic.Pointer[sessionKeys] // nil until SetSessionKey
	metrics *crmMetrics
}

// NewCRM makes a CRM. It asks nothing yet.
func NewCRM(config CRMConfig) (*CRM, error) {
	if err := CheckCRMURL(config.URL); err != nil {
		return nil, err
	}
	field, err := parseSelector(config.Field)
	if err != nil {
		return nil, fmt.Errorf("the answer's field: %w", err)
	}
	c := &CRM{
		config: config, field: field, cookies: map[string]bool{}, asking: make(chan struct{}, maxAsking),
		answers: answers{known: map[[sha256.Size]byte]*pending{}}, hashKey: make([]byte, sha256.Size), metrics: newCRMMetrics(),
	}
	for _, name := range config.Cookies {
		c.cookies[name] = true
	}
	rand.Read(c.hashKey) // it never fails, see its documentation
	c.client = &http.Client{
		Transport: newCRMTransport(config.URL),
		// A redirect leads to a login page: it says no, and it is never followed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// CheckCRMURL reports what is wrong with an endpoint's URL. Credentials travel to
// it, so plain http is only for this machine and private networks. An address is
// judged here, a name when it has been resolved.
func CheckCRMURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("must be an http or https URL")
	}
	if u.User != nil || u.Fragment != "" {
		return errors.New("must have no user, password or fragment")
	}
	if address, err := netip.ParseAddr(u.Hostname()); err == nil && u.Scheme == "http" && !isPrivate(address) {
		return errPlain
	}
	return nil
}

var errPlain = errors.New("must be https, or lead to a loopback or private address: it carries credentials")

func isPrivate(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate()
}

// newCRMTransport makes connections to the CRM alone. With plain http each address
// is judged when it is dialled, because a name may lead to another one each time.
func newCRMTransport(target string) *http.Transport {
	dialer := &net.Dialer{Timeout: askDeadline}
	t := &http.Transport{
		DialContext: dialer.DialContext, MaxIdleConnsPerHost: maxAsking, MaxConnsPerHost: maxAsking,
		IdleConnTimeout: time.Minute, TLSHandshakeTimeout: askDeadline, DisableCompression: true, ForceAttemptHTTP2: true,
	}
	if u, err := url.Parse(target); err == nil && u.Scheme == "https" {
		t.Proxy = http.ProxyFromEnvironment // sees the CRM's name, not the credentials
		return t
	}
	dialer.Control = func(_, address string, _ syscall.RawConn) error {
		if a, err := netip.ParseAddrPort(address); err != nil || !isPrivate(a.Addr()) {
			return errPlain
		}
		return nil
	}
	return t
}

// Answer is whom the CRM named, and when.
type Answer struct {
	Identity Identity
	At       time.Time // when the CRM was asked
	Source   AnswerSource
}

// AnswerSource is where an Answer comes from.
type AnswerSource int

// An answer that was not asked for by this request may be older than a sign-out.
const (
	FromCRM     AnswerSource = iota // asked now
	FromMemory                      // asked moments ago, for the same credentials
	FromSession                     // asked by some replica in the last minutes
)

// Identify says whom a request's credentials name: by its session, from memory, or
// by asking. Its errors are *Error when the CRM refuses, or wrap ErrCRMUnavailable.
func (c *CRM) Identify(r *http.Request, credentials *Credentials) (Answer, error) {
	if a, ok := c.readSession(r, credentials, time.Now()); ok {
		c.metrics.reused.WithLabelValues("session").Inc()
		return a, nil
	}
	a, err := c.ask(r.Context(), credentials, false)
	if err == nil && a.Source == FromMemory {
		c.metrics.reused.WithLabelValues("memory").Inc()
	}
	return a, err
}

// Ask asks the CRM itself, whatever is remembered. Its errors are those of
// Identify.
func (c *CRM) Ask(ctx context.Context, credentials *Credentials) (Answer, error) {
	return c.ask(ctx, credentials, true)
}

// Check asks the CRM itself about an open stream, and stops when ctx ends: nobody
// else waits for the answer. Its errors are those of Identify, or ctx's.
func (c *CRM) Check(ctx context.Context, credentials *Credentials) (Identity, error) {
	identity, err := c.request(ctx, credentials)
	if err != nil {
		c.answers.forget(credentials.sum(c.hashKey))
	}
	return identity, err
}

func (c *CRM) ask(ctx context.Context, credentials *Credentials, fresh bool) (Answer, error) {
	id := credentials.sum(c.hashKey)
	p, mine := c.answers.enter(id, fresh)
	if mine {
		// Others wait for it too: the first one's client may leave.
		at := time.Now()
		identity, err := c.request(context.WithoutCancel(ctx), credentials)
		c.answers.complete(id, p, Answer{Identity: identity, At: at, Source: FromMemory}, err)
		return Answer{Identity: identity, At: at, Source: FromCRM}, err
	}
	select {
	case <-p.done:
		return p.answer, p.err
	case <-ctx.Done():
		return Answer{}, context.Cause(ctx)
	}
}

// request waits for a place and asks.
func (c *CRM) request(ctx context.Context, credentials *Credentials) (Identity, error) {
	place := time.NewTimer(queueDeadline)
	defer place.Stop()
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-place.C:
		c.metrics.count(resultUnavailable)
		return Identity{}, fmt.Errorf("%w: %d requests to it are under way", ErrCRMUnavailable, maxAsking)
	case <-ctx.Done():
		return Identity{}, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, askDeadline)
	defer cancel()
	began := time.Now()
	identity, err := c.get(ctx, credentials)
	result := resultOK
	var no *Error
	switch {
	case errors.As(err, &no):
		result = resultRefused
	case err != nil:
		result = resultUnavailable
		err = fmt.Errorf("%w: %w", ErrCRMUnavailable, err)
	}
	c.metrics.count(result)
	c.metrics.seconds.Observe(time.Since(began).Seconds())
	return identity, err
}

// Probe asks without credentials, which the CRM must refuse: it returns nil then.
// Its error says what is wrong otherwise.
func (c *CRM) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askDeadline)
	defer cancel()
	_, err := c.get(ctx, &Credentials{})
	var no *Error
	if err == nil {
		return errors.New("it names somebody to a request without credentials")
	}
	if errors.As(err, &no) {
		return nil
	}
	return err
}

func (c *CRM) get(ctx context.Context, credentials *Credentials) (Identity, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.config.URL, nil)
	if err != nil {
		return Identity{}, errors.New("the URL is not valid")
	}
	r.Host = credentials.host
	r.Header = http.Header{"Accept": {"application/json"}, "User-Agent": {"notification-gateway"}}
	for name, values := range map[string][]string{"X-Forwarded-Proto": credentials.proto, "X-Forwarded-For": credentials.forwardedFor} {
		if len(values) > 0 {
			r.Header[name] = values
		}
	}
	if credentials.cookies != "" {
		r.Header.Set("Cookie", credentials.cookies)
	}
	if credentials.authorization != "" {
		r.Header.Set("Authorization", credentials.authorization)
	}
	resp, err := c.client.Do(r)
	if err != nil {
		return Identity{}, withoutURL(err)
	}
	defer resp.Body.Close()
	switch s := resp.StatusCode; {
	case s == http.StatusUnauthorized, s == http.StatusForbidden, s >= 300 && s < 400:
		return Identity{}, refused(reasonCRM)
	case s != http.StatusOK:
		return Identity{}, fmt.Errorf("it answered %d", s)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return Identity{}, fmt.Errorf("read its answer: %w", err)
	}
	if len(body) > maxAnswer {
		return Identity{}, fmt.Errorf("its answer has more than %d bytes", maxAnswer)
	}
	members, err := parseObject(body)
	if err != nil {
		return Identity{}, errors.New("its answer is no JSON object")
	}
	name, err := c.field.subject(members)
	if err != nil {
		return Identity{}, errors.New("its answer names no subject in the field that is configured: signed out must be 401, 403 or a redirect")
	}
	return Identity{Subject: name}, nil
}

// withoutURL takes the URL out of an error of an http.Client: it may hold a
// credential.
func withoutURL(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

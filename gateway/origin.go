package gateway

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

var errOriginForm = errors.New("must be exact origins such as https://crm.example.com or capacitor://localhost")

// CanonicalOrigin returns the one spelling of an origin: scheme and host in lower
// case, the host in ASCII, and no port where it is the scheme's own (RFC 6454
// sections 4 and 6.2). The list of origins, Origin and Host are compared in this
// spelling alone. It fails for what no browser sends as Origin, because that could
// never match.
func CanonicalOrigin(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return "", errOriginForm
	case strings.TrimPrefix(text[len(u.Scheme):], "://") != u.Host: // a path, a query or a fragment, empty ones too
		return "", errOriginForm
	}
	host, port := u.Hostname(), u.Port()
	switch u.Scheme { // url.Parse has made it lower-case
	case "http", "https":
		if host, err = canonicalHost(host); err != nil {
			return "", err
		}
	case "ws", "wss", "ftp", "file", "data", "blob", "about", "javascript":
		return "", errOriginForm // a page of these has another origin, or none
	default: // web views and browser extensions have schemes of their own
		host = strings.ToLower(host)
		if host == "" || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
			return "", errOriginForm
		}
	}
	if port != "" {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return "", errOriginForm
		}
		if port = ":" + strconv.FormatUint(number, 10); port == map[string]string{"http": ":80", "https": ":443"}[u.Scheme] {
			port = ""
		}
	}
	return u.Scheme + "://" + host + port, nil
}

// canonicalHost is the host of an http or https URL as browsers write it (WHATWG
// URL, section 3.5, "Host parsing").
func canonicalHost(host string) (string, error) {
	if strings.Contains(host, ":") {
		a, err := netip.ParseAddr(host)
		if err != nil || a.Zone() != "" {
			return "", errOriginForm
		}
		return "[" + a.String() + "]", nil
	}
	// As browsers do: no transitional mapping, and underscores pass.
	browsers := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false))
	host, err := browsers.ToASCII(host)
	if err != nil || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" || strings.Trim(host, ".") == "" {
		return "", errOriginForm // above all a *, which stands for itself only
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" { // only an address ends in a number
		if _, err := netip.ParseAddr(host); err != nil {
			return "", errOriginForm
		}
	}
	return host, nil
}

// origins are the origins that are allowed, in their canonical spelling.
type origins map[string]struct{}

// newOrigins ignores what is no origin: the caller has refused it.
func newOrigins(list []string) origins {
	o := origins{}
	for _, text := range list {
		if canonical, err := CanonicalOrigin(text); err == nil {
			o[canonical] = struct{}{}
		}
	}
	return o
}

func (o origins) allow(origin string) bool {
	if _, listed := o[origin]; listed || len(o) == 0 { // browsers send the canonical spelling
		return listed
	}
	canonical, err := CanonicalOrigin(origin)
	_, listed := o[canonical]
	return err == nil && listed
}

// originAllowed reports whether a request that came with the cookie may use
// it: a browser adds the cookie by itself, so another site's page must not.
func (g *Gateway) originAllowed(r *http.Request) bool {
	values := r.Header.Values("Origin")
	switch {
	case len(values) > 1:
		return false // no browser sends two
	case len(values) == 0 || values[0] == "":
		site := r.Header.Get("Sec-Fetch-Site") // Fetch Metadata, section 2.3
		return site != "cross-site" && site != "same-site"
	}
	return g.origins.allow(values[0]) || sameHost(values[0], r.Host)
}

// sameHost reports whether an origin is that of the page's own host. The scheme
// of our own URL is unknown here, because a proxy may speak TLS for us, and some
// proxies add the port to Host that was the default one for the browser.
func sameHost(origin, host string) bool {
	scheme, rest, _ := strings.Cut(origin, "://")
	if rest == host && host != "" && !strings.ContainsAny(host, "@/") {
		return strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
	}
	if !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return false
	}
	theirs, err := CanonicalOrigin(origin)
	if err != nil {
		return false
	}
	ours, err := CanonicalOrigin(scheme + "://" + host)
	return err == nil && theirs == ours
}

// cors lets the pages of listed origins read answers (Fetch Standard, section
// 3.3, "CORS protocol"). A list of origins makes every answer depend on Origin.
func (g *Gateway) cors(w http.ResponseWriter, r *http.Request, allow string) {
	if len(g.origins) == 0 {
		return
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	values := r.Header.Values("Origin")
	if len(values) != 1 || !g.origins.allow(values[0]) {
		return
	}
	h.Set("Access-Control-Allow-Origin", values[0])
	h.Set("Access-Control-Allow-Credentials", "true")
	if r.Method != http.MethodOptions {
		h.Set("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate")
		return
	}
	h.Set("Access-Control-Allow-Methods", allow)
	h.Set("Access-Control-Max-Age", "600")
	// The list is the page's own: tracing agents and HTTP clients add headers to
	// each request. None of them can give a right here that the origin has not.
	h.Add("Vary", "Access-Control-Request-Headers")
	if asked := r.Header.Values("Access-Control-Request-Headers"); len(asked) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(asked, ", "))
	} else {
		h.Set("Access-Control-Allow-Headers", "Authorization, Last-Event-ID, Cache-Control")
	}
}

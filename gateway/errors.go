package gateway

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store"
)

// httpError is what a client gets instead of a stream: a status, a word and a
// sentence. The cause, if any, is for the log alone.
type httpError struct {
	status    int
	code      string
	sentence  string
	wait      time.Duration // Retry-After (RFC 9110 section 10.2.3); zero leaves it out
	challenge string        // WWW-Authenticate (RFC 6750 section 3); empty leaves it out
	reason    string        // label of auth_failures_total; empty counts nothing
	cause     error
}

// codeUnavailable is the code of the error event that stands for 429 and 503.
const codeUnavailable = "unavailable"

const (
	waitShort = time.Second     // for what passes by itself soon
	waitLong  = 5 * time.Second // for what needs somebody to leave
)

func errBadRequest(sentence string) *httpError {
	return &httpError{status: http.StatusBadRequest, code: "bad_request", sentence: sentence}
}

func errStarting() *httpError {
	return &httpError{status: http.StatusServiceUnavailable, code: "starting", sentence: "The service is starting.", wait: waitShort}
}

func errDraining() *httpError {
	return &httpError{status: http.StatusServiceUnavailable, code: "draining", sentence: "The service is restarting.", wait: waitShort}
}

func errFull() *httpError {
	return &httpError{status: http.StatusServiceUnavailable, code: "full", sentence: "The service has all the streams it can hold.", wait: waitLong}
}

// errTooMany names a second at least, the smallest number that Retry-After can.
func errTooMany(wait time.Duration) *httpError {
	return &httpError{
		status: http.StatusTooManyRequests, code: "too_many_requests", sentence: "Too many requests from this address.",
		wait: max(wait, time.Second),
	}
}

func errTokenTooLarge() *httpError {
	return &httpError{
		status: http.StatusRequestEntityTooLarge, code: "token_too_large",
		sentence: "The token is too large for a cookie: browsers keep at most 4096 bytes of name and value.",
	}
}

func errOrigin() *httpError {
	return &httpError{status: http.StatusForbidden, code: "origin_not_allowed", sentence: "This origin may not use the session cookie: it is neither this host nor listed in GATEWAY_ALLOWED_ORIGINS.", reason: "origin"}
}

// errToken turns what extracting or verifying a token gave into an answer. The
// texts are fixed: nothing that the client sent comes back.
func errToken(err error) *httpError {
	var refused *auth.Error
	switch {
	case errors.As(err, &refused) && refused.Reason == "missing":
		return &httpError{
			status: http.StatusUnauthorized, code: "missing_token", sentence: "A token is required.",
			challenge: `Bearer realm="notifications"`, reason: refused.Reason,
		}
	case errors.As(err, &refused) && refused.Forbidden():
		return &httpError{
			status: http.StatusForbidden, code: "no_recipient", reason: refused.Reason,
			sentence: "The token cannot name a recipient: " + strings.ReplaceAll(refused.Reason, "_", " ") + ".",
		}
	case errors.As(err, &refused) && refused.Reason == "refused_by_crm":
		return &httpError{
			status: http.StatusUnauthorized, code: refused.Reason, sentence: "These credentials are signed in to nothing.",
			challenge: `Bearer realm="notifications"`, reason: refused.Reason,
		}
	case errors.As(err, &refused):
		description := "The token was refused: " + strings.ReplaceAll(refused.Reason, "_", " ") + "."
		code := refused.Code
		if refused.Reason == "expired" {
			code = endExpired // the word of the error event: the client needs a new token, nothing else
		}
		return &httpError{
			status: http.StatusUnauthorized, code: code, sentence: description,
			challenge: `Bearer realm="notifications", error="invalid_token", error_description="` + description + `"`, reason: refused.Reason,
		}
	case errors.Is(err, auth.ErrCRMUnavailable):
		return &httpError{status: http.StatusServiceUnavailable, code: "crm_unavailable", sentence: "Logins cannot be checked at the moment.", wait: waitLong, cause: err}
	case errors.Is(err, auth.ErrUnavailable):
		return &httpError{status: http.StatusServiceUnavailable, code: "keys_unavailable", sentence: "Tokens cannot be verified at the moment.", wait: waitLong, cause: err}
	}
	return errCause(err)
}

// errCause turns what Postgres gave into an answer.
func errCause(err error) *httpError {
	switch {
	case errors.Is(err, store.ErrNotReady):
		return errStarting()
	case errors.Is(err, store.ErrNoRecipient):
		return &httpError{status: http.StatusForbidden, code: "no_recipient", sentence: "The token names no active recipient.", reason: "no_recipient"}
	}
	return &httpError{status: http.StatusServiceUnavailable, code: "unavailable", sentence: "The service cannot answer at the moment.", wait: waitLong, cause: err}
}

// answer writes e; it is never called after a stream's first byte.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, e *httpError) {
	if e.cause != nil && r.Context().Err() == nil {
		g.hub.log.error("request failed", "status", e.status, "code", e.code, "err", e.cause)
	}
	if e.reason != "" {
		g.metrics.authFailures.WithLabelValues(e.reason).Inc()
	}
	if e.status == http.StatusTooManyRequests || e.status == http.StatusServiceUnavailable {
		g.metrics.refused.WithLabelValues(e.code).Inc()
	}
	if e.wait > 0 && g.isStream(r) && wantsRetry(r) {
		answerByStream(w, r, e)
		return
	}
	h := w.Header()
	if e.wait > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.wait.Seconds()))))
	}
	if e.challenge != "" {
		h.Set("WWW-Authenticate", e.challenge)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(e.status)
	if r.Method != http.MethodHead {
		body := append([]byte(`{"error":`), quoted(e.sentence)...)
		body = append(append(append(body, `,"code":`...), quoted(e.code)...), "}\n"...)
		w.Write(body) // the client is gone
	}
}

// answerByStream answers 429 or 503 by a stream that says when to come again and
// ends. It has no id, so the client keeps the one that it has. The time is that of
// Retry-After at least, and half of it more at the most, so that clients which
// were refused together do not come together.
func answerByStream(w http.ResponseWriter, r *http.Request, e *httpError) {
	setHead(w.Header())
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	wait := e.wait + rand.N(e.wait/2)
	w.Write(errorEvent(codeUnavailable, e.sentence, wait).plain()) // the client is gone
}

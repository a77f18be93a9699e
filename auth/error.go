package auth

import "errors"

// Error says why a token was refused. Code is RFC 6750 section 3.1's word;
// Reason is one of Reasons. It holds nothing of the token.
type Error struct {
	Code   string
	Reason string
}

func (e *Error) Error() string { return e.Code + ": " + e.Reason }

// Forbidden reports whether the token itself is good, but what it names cannot be
// a recipient: the caller answers 403, not 401.
func (e *Error) Forbidden() bool { return e.Reason == reasonUserPart || e.Reason == reasonGroups }

// ErrUnavailable is returned when a token needs keys that could not be read: the
// key set never was, or the token's key is not in it and the last fetch failed.
// Whether the token is good is unknown then, so the caller answers 503, not 401.
var ErrUnavailable = errors.New("the key set is not available")

func refused(reason string) *Error { return &Error{Code: "invalid_token", Reason: reason} }

const (
	reasonMalformed   = "malformed"
	reasonAlgorithm   = "unsupported_algorithm"
	reasonKey         = "unknown_key"
	reasonSignature   = "bad_signature"
	reasonExpired     = "expired"
	reasonNoExpiry    = "no_expiry"
	reasonEarly       = "not_yet_valid"
	reasonIssuer      = "wrong_issuer"
	reasonAudience    = "wrong_audience"
	reasonTokenType   = "wrong_token_type"
	reasonUserClaim   = "bad_user_claim"
	reasonUserPart    = "bad_user_part"
	reasonGroups      = "bad_groups"
	reasonCRM         = "refused_by_crm"
	reasonTooLarge    = "too_large"
	reasonMissing     = "missing"
	maxTokenBytes     = 8 << 10
	maxSubjectBytes   = 255
	minSecretBytes    = 32      // RFC 7518 section 3.2: at least HS256's output
	minRSABits        = 2048    // RFC 7518 section 3.3
	maxKeySetBytes    = 1 << 18 // of a key set's body
	maxVerifiedTokens = 16384   // remembered
)

// Reasons returns the closed set of Error.Reason.
func Reasons() []string {
	return []string{
		reasonMissing, reasonMalformed, reasonAlgorithm, reasonKey, reasonSignature, reasonExpired, reasonNoExpiry, reasonEarly,
		reasonIssuer, reasonAudience, reasonTokenType, reasonUserClaim, reasonUserPart, reasonGroups, reasonCRM, reasonTooLarge,
	}
}

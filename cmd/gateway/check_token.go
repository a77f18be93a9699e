package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// checkToken says whom a token names, or why it is refused, and shows nothing
// of it but the user.
func checkToken(ctx context.Context, c config, verifier *auth.Verifier, token string) schema.Finding {
	identity, err := verifier.Verify(ctx, token)
	var refused *auth.Error
	switch {
	case errors.As(err, &refused):
		return schema.Finding{Name: "token", Detail: "refused: " + refused.Reason, Mend: mendToken(refused.Reason)}
	case err != nil:
		return schema.Finding{Name: "token", Detail: err.Error(), Mend: "check that GATEWAY_JWKS_URL is reachable from here and is a JWK Set"}
	}
	detail := fmt.Sprintf("accepted; %s is %s", c.JWTUserClaim, identity.Subject)
	if identity.Expires.IsZero() {
		detail += ", without an end"
	} else {
		detail += ", until " + identity.Expires.UTC().Format(time.RFC3339)
	}
	recipient, err := store.FindRecipient(ctx, c.DatabaseURL, store.RecipientMode(c.Recipient), identity.Subject)
	switch {
	case errors.Is(err, store.ErrSeveralRecipients):
		return schema.Finding{Name: "token", Detail: detail + ", and the view identity has several rows for it (403)", Mend: "mend the view notification_gateway.identity: one row for each subject"}
	case errors.Is(err, store.ErrNoRecipient) && c.Recipient == "auto":
		return schema.Finding{Name: "token", Detail: detail + ", but names no active recipient (403)", Mend: "look for the subject in the view notification_gateway.identity; without that view, compare GATEWAY_JWT_USER_CLAIM with whom the notifications are for"}
	case errors.Is(err, store.ErrNoRecipient) && c.Recipient == "lookup":
		return schema.Finding{Name: "token", Detail: detail + ", but names no active recipient (403)", Mend: "look for the subject in the view notification_gateway.identity"}
	case errors.Is(err, store.ErrNoRecipient):
		return schema.Finding{Name: "token", Detail: detail + ", but feed.user_key cannot hold that (403)", Mend: "compare GATEWAY_JWT_USER_CLAIM and GATEWAY_RECIPIENT with whom the notifications are for"}
	case err != nil:
		return schema.Finding{Name: "token", Detail: detail + "; the recipient could not be looked up: " + err.Error(), Mend: "mend the lines above first"}
	}
	return schema.Finding{Name: "token", OK: true, Detail: detail + "; the recipient is " + recipient.UserKey}
}

// mendToken says what to do about a reason of auth.Reasons.
func mendToken(reason string) string {
	return map[string]string{
		"missing":               "give the token itself, without Bearer",
		"malformed":             "give the whole access token: three parts of base64url with dots between them, each claim once",
		"unsupported_algorithm": "set GATEWAY_JWT_SECRET for HS256/384/512, GATEWAY_JWKS_URL for RS, PS, ES and EdDSA; nothing else is taken",
		"unknown_key":           "its kid is not in the key set: see that GATEWAY_JWKS_URL is this issuer's",
		"bad_signature":         "another secret or key signed it: compare GATEWAY_JWT_SECRET with the issuer's signing key, to the last byte",
		"expired":               "sign in again; if it is new, compare the clocks",
		"no_expiry":             "have the issuer put an exp into the token; GATEWAY_JWT_REQUIRE_EXP=false takes tokens that are good for ever",
		"not_yet_valid":         "compare this machine's clock with the issuer's, or raise GATEWAY_JWT_LEEWAY",
		"wrong_issuer":          "compare GATEWAY_JWT_ISSUER with the token's iss",
		"wrong_audience":        "compare GATEWAY_JWT_AUDIENCE with the token's aud",
		"wrong_token_type":      "this is a refresh token or the like: give the access token",
		"bad_user_claim":        "set GATEWAY_JWT_USER_CLAIM to a claim that is there, an integer or a text",
		"bad_user_part":         "each claim of GATEWAY_JWT_USER_CLAIM must be there, not empty and without a colon",
		"bad_groups":            "GATEWAY_JWT_GROUPS_CLAIM must name at most 100 groups, integers or texts",
		"refused_by_crm":        "give a token: only a request can ask GATEWAY_AUTH_URL",
		"too_large":             "a token may have 8 KiB",
	}[reason]
}

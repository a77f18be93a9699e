// Package auth says whom a request names: by a token, or by asking the CRM.
//
// # Tokens
//
// A token is a JWT (RFC 7519) in JWS compact serialization (RFC 7515 section
// 7.1). Which algorithm verifies it is decided by our key, never by the token:
// a shared secret verifies HS256, HS384 and HS512, a public key those of its own
// type, and the token's alg only has to name one of them (RFC 8725 section 3.1).
// Key material and addresses inside a token are never used.
//
// Verifier verifies tokens. It keeps its keys: shared secrets and the public keys
// of a file, which the caller replaces, and a key set at a URL, which Run keeps
// fresh and which a token with an unknown key makes it read again.
//
// # Logins of the CRM
//
// CRM asks the CRM's own endpoint whom the cookies and Authorization of a request
// name. It spares the CRM in three ways: equal credentials ask once at a time,
// answers are remembered for seconds, and a session of the gateway's own carries
// an answer to every replica for minutes.
//
// # What may not be assumed
//
// An error that is no *Error does not mean that a token or a login is bad: it could
// not be found out. The caller answers 503 then and ends no stream.
//
// Whether a recipient is active, and whether disconnect() outranks an answer of the
// CRM, is not known here. Answer says when and how it was got, so that the caller
// can judge it.
package auth

// Package auth says whom a token names: where in a request it comes from, who
// signed it, and whether it is still good.
//
// A token is a JWT (RFC 7519) in JWS compact serialization (RFC 7515 section
// 7.1). Which algorithm verifies it is decided by our key, never by the token:
// a shared secret verifies HS256, HS384 and HS512, a key of the key set those
// of its own type, and the token's alg only has to name one of them (RFC 8725
// section 3.1). Key material and addresses inside a token are never used.
package auth

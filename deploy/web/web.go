// Package web holds the browser module, which the gateway serves as it stands.
package web

import _ "embed"

//go:embed client.js
var module []byte

//go:embed client.d.ts
var declarations []byte

// Files returns what a gateway serves, by name.
func Files() map[string][]byte {
	return map[string][]byte{"client.js": module, "client.d.ts": declarations}
}

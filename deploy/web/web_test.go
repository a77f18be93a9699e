package web

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
)

const maxCompressed = 6 << 10 // bytes that a page may cost

// The module grows with each wish, and every page loads it.
func TestModuleIsSmall(t *testing.T) {
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	w.Write(Files()["client.js"])
	w.Close()
	if compressed.Len() > maxCompressed {
		t.Errorf("client.js has %d bytes compressed, want at most %d", compressed.Len(), maxCompressed)
	}
}

// A page whose Content-Security-Policy allows neither inline code nor eval must
// be able to use the module, without a build step and from its one file.
func TestModuleIsPlain(t *testing.T) {
	module := string(Files()["client.js"])
	for _, forbidden := range []string{"eval(", "new Function", "innerHTML", "document.write", "createElement", "\nimport ", "import("} {
		if at := strings.Index(strings.ReplaceAll(module, `{import("./client.d.ts")`, ""), forbidden); at >= 0 {
			t.Errorf("client.js holds %q", forbidden)
		}
	}
}

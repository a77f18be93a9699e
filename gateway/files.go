package gateway

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"
)

// fileMaxAge is for how long a browser uses a file without asking for it
// again: after an upgrade its pages have the new module within five minutes.
const fileMaxAge = 5 * time.Minute

// staticFile is a file of Config.Files in the two forms in which it is served.
type staticFile struct {
	contentType string
	plain       representation
	compressed  representation // gzip
}

// representation is what one entity tag stands for (RFC 9110 section 8.8.3):
// the compressed form of a file is another one than the plain form.
type representation struct {
	content []byte
	etag    string
}

// makeFiles prepares files, given by their names, to be served below prefix.
func makeFiles(files map[string][]byte, prefix string) map[string]*staticFile {
	all := make(map[string]*staticFile, len(files))
	for name, content := range files {
		all[prefix+"/"+name] = makeFile(name, content)
	}
	return all
}

func makeFile(name string, content []byte) *staticFile {
	// By the name alone: the types that a system's tables give for .ts are video.
	contentType := "application/octet-stream"
	switch path.Ext(name) {
	case ".js":
		contentType = "text/javascript; charset=utf-8" // RFC 9239
	case ".ts":
		contentType = "text/plain; charset=utf-8"
	}
	var compressed bytes.Buffer
	w, err := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	if err != nil { // the level is one of gzip's own
		panic(err)
	}
	w.Write(content) // a bytes.Buffer takes everything
	w.Close()        // a bytes.Buffer takes everything
	sum := sha256.Sum256(content)
	tag := hex.EncodeToString(sum[:12])
	return &staticFile{
		contentType: contentType,
		plain:       representation{content, `"` + tag + `"`},
		compressed:  representation{compressed.Bytes(), `"` + tag + `-gzip"`},
	}
}

// serve answers GET and HEAD, conditional requests and ranges.
func (f *staticFile) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(fileMaxAge.Seconds())))
	h.Add("Vary", "Accept-Encoding")
	form := f.plain
	if acceptsGzip(r) {
		form = f.compressed
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", form.etag)
	// The time of an embedded file is unknown; the entity tag says it all.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(form.content))
}

// acceptsGzip reads Accept-Encoding (RFC 9110 section 12.5.3). A client that
// only accepts gzip as part of "*" gets the plain form, which it accepts too.
func acceptsGzip(r *http.Request) bool {
	for _, field := range r.Header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(field, ",") {
			name, weight, _ := strings.Cut(coding, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			q := strings.TrimSpace(weight)
			return q != "q=0" && !strings.HasPrefix(q, "q=0.0")
		}
	}
	return false
}

//go:build e2e

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const (
	proxyHost     = "crm.example.com" // in the files of deploy/proxies
	proxyPatience = 60 * time.Second
)

// upstreams are the addresses behind a proxy; health are the gateways' admin
// listeners.
type upstreams struct{ crm, a, b, healthA, healthB string }

// proxy is a program that runs a file of deploy/proxies.
type proxy struct {
	file    string
	command func(f *front) []string
	reload  func(f *front) // makes the program read its file again
	// settings are what the test replaces in the file: addresses, paths, and
	// nothing else. Each must stand in the file.
	settings func(f *front, u upstreams) []string
}

func proxies() map[string]proxy {
	return map[string]proxy{
		"nginx": {
			file: "nginx.conf",
			command: func(f *front) []string {
				return []string{"/usr/sbin/nginx", "-e", f.dir + "/start.log", "-p", f.dir, "-c", f.file, "-g", "daemon off;"}
			},
			reload: func(f *front) { f.signal(syscall.SIGHUP) },
			settings: func(f *front, u upstreams) []string {
				return []string{
					"listen 80;", "listen " + f.plain + ";", "listen 443 ssl", "listen " + f.secure + " ssl",
					"server 127.0.0.1:8000", "server " + u.crm, "server 127.0.0.1:8080", "server " + u.a, "server 127.0.0.1:8081", "server " + u.b,
					"/etc/ssl/", f.dir + "/", "/var/log/nginx/", f.dir + "/", "/run/nginx.pid", f.dir + "/pid",
					// The directories that Debian has compiled in are of the installed nginx.
					"http {\n", "http {\n" + temporary(f.dir),
				}
			},
		},
		"haproxy": {
			file:    "haproxy.cfg",
			command: func(f *front) []string { return []string{"/usr/sbin/haproxy", "-W", "-f", f.file} },
			reload:  func(f *front) { f.signal(syscall.SIGUSR2) },
			settings: func(f *front, u upstreams) []string {
				return []string{
					"bind :80", "bind " + f.plain, "bind :443", "bind " + f.secure,
					"127.0.0.1:8000", u.crm, "127.0.0.1:8080 port 9090", u.a + " addr 127.0.0.1 port " + port(u.healthA),
					"127.0.0.1:8081 port 9091", u.b + " addr 127.0.0.1 port " + port(u.healthB),
					"/etc/ssl/", f.dir + "/", "/run/haproxy/", f.dir + "/", "log /dev/log", "log " + f.dir + "/syslog",
					// Nobody else may look into a directory of the tests, where its log is.
					"  user haproxy # or it would stay root\n  group haproxy\n", "",
				}
			},
		},
		"caddy": {
			file: "Caddyfile",
			command: func(f *front) []string {
				return []string{"/usr/bin/caddy", "run", "--adapter", "caddyfile", "--config", f.file}
			},
			reload: func(f *front) {
				cmd := exec.Command("/usr/bin/caddy", "reload", "--address", f.admin, "--force", "--adapter", "caddyfile", "--config", f.file)
				if out, err := cmd.CombinedOutput(); err != nil {
					f.Fatalf("reload: %v\n%s", err, out)
				}
			},
			settings: func(f *front, u upstreams) []string {
				return []string{
					"\ncrm.example.com {", "\nhttps://crm.example.com:" + port(f.secure) + " {",
					"127.0.0.1:8000", u.crm, "127.0.0.1:8080", u.a, "127.0.0.1:8081", u.b, "/etc/ssl/", f.dir + "/", "/var/log/caddy/", f.dir + "/",
					"{\n\t# Errors", "{\n\tadmin " + f.admin + "\n\thttp_port " + port(f.plain) + "\n\tdefault_bind 127.0.0.1\n\t# Errors",
				}
			},
		},
	}
}

// temporary tells nginx where it may write.
func temporary(dir string) (text string) {
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		text += kind + "_temp_path " + dir + "/t_" + kind + ";\n"
	}
	return text
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// front is a running proxy.
type front struct {
	*testing.T
	dir, file            string
	plain, secure, admin string // addresses
	cmd                  *exec.Cmd
	exited               <-chan struct{}
	output               *os.File
	roots                *x509.CertPool
}

// start runs the shipped file until the test ends.
func (p proxy) start(t *testing.T, u upstreams) *front {
	t.Helper()
	return p.run(t, func(f *front) string {
		text, err := os.ReadFile("../../deploy/proxies/" + p.file)
		if err != nil {
			t.Fatal(err)
		}
		settings := p.settings(f, u)
		for i := 0; i < len(settings); i += 2 {
			if !bytes.Contains(text, []byte(settings[i])) {
				t.Fatalf("%s does not have %q", p.file, settings[i])
			}
		}
		return strings.NewReplacer(settings...).Replace(string(text))
	})
}

// run runs the program with a configuration until the test ends.
func (p proxy) run(t *testing.T, configuration func(f *front) string) *front {
	t.Helper()
	f := &front{T: t, dir: t.TempDir(), plain: freeAddress(t), secure: freeAddress(t), admin: freeAddress(t), roots: x509.NewCertPool()}
	f.certificate()
	f.file = filepath.Join(f.dir, p.file)
	if err := os.WriteFile(f.file, []byte(configuration(f)), 0o600); err != nil {
		t.Fatal(err)
	}
	f.syslog()
	args := p.command(f)
	f.cmd = exec.Command(args[0], args[1:]...)
	f.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.dir, "XDG_DATA_HOME=" + f.dir, "XDG_CONFIG_HOME=" + f.dir}
	var err error
	if f.output, err = os.Create(filepath.Join(f.dir, "output.log")); err != nil {
		t.Fatal(err)
	}
	f.cmd.Stdout, f.cmd.Stderr = f.output, f.output
	if f.exited, err = throwaway.StartTied(f.cmd); err != nil {
		t.Fatalf("start %s (see .ci/install): %v", args[0], err)
	}
	t.Cleanup(f.stop)
	f.eventually("it listens", func() bool {
		select {
		case <-f.exited:
			t.Fatalf("%s ended at once: %s", args[0], f.logs())
		default:
		}
		c, err := net.Dial("tcp", f.secure)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return f
}

// certificate makes one, as nginx and Caddy take it and as HAProxy does.
func (f *front) certificate() {
	f.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: proxyHost}, DNSNames: []string{proxyHost},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		f.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	f.roots.AppendCertsFromPEM(cert)
	for name, text := range map[string][]byte{".pem": cert, ".key": private, ".both.pem": append(cert, private...)} {
		if err := os.WriteFile(filepath.Join(f.dir, proxyHost+name), text, 0o600); err != nil {
			f.Fatal(err)
		}
	}
}

// syslog takes what HAProxy sends to the system's log into a file.
func (f *front) syslog() {
	f.Helper()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(f.dir, "syslog"), Net: "unixgram"})
	if err != nil {
		f.Fatal(err)
	}
	file, err := os.Create(filepath.Join(f.dir, "syslog.log"))
	if err != nil {
		f.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buffer := make([]byte, 65536); ; {
			n, err := socket.Read(buffer)
			if err != nil {
				return
			}
			file.Write(append(buffer[:n], '\n')) // a line that is missing fails the test that looks for it
		}
	}()
	f.Cleanup(func() { socket.Close(); <-done; file.Close() })
}

func (f *front) signal(s syscall.Signal) {
	f.Helper()
	if err := f.cmd.Process.Signal(s); err != nil {
		f.Fatal(err)
	}
}

// stop ends the proxy with all its processes. SIGTERM ends open streams.
func (f *front) stop() {
	f.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-f.exited:
	case <-time.After(5 * time.Second): // Caddy waits for its open streams
		f.cmd.Process.Kill() // as above
		<-f.exited
	}
	f.output.Close()
}

// logs is everything that the proxy has written, in whatever file.
func (f *front) logs() string {
	f.Helper()
	var all strings.Builder
	err := filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || path == f.file || strings.HasSuffix(path, ".key") || strings.HasSuffix(path, ".pem") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	return all.String()
}

func (f *front) eventually(what string, holds func() bool) {
	f.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(proxyPatience); !holds(); <-look.C {
		if time.Now().After(deadline) {
			f.Fatalf("not within %v: %s\n%.4000s", proxyPatience, what, f.logs())
		}
	}
}

// client speaks to the proxy as a browser would; connections counts those that
// it has opened.
func (f *front) client(version int, connections *atomic.Int32) *http.Client {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: f.roots, ServerName: proxyHost}, ForceAttemptHTTP2: version == 2,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if connections != nil {
				connections.Add(1)
			}
			to := f.secure
			if strings.HasSuffix(address, ":80") {
				to = f.plain
			}
			return new(net.Dialer).DialContext(ctx, network, to)
		},
	}
	f.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

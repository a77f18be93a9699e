package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"strings"
	"time"
)

const (
	healthDeadline = 2 * time.Second // for connecting, asking and answering together
	healthAnswer   = 4 << 10         // bytes of the answer that are shown
)

// health asks the admin listener of the gateway that runs beside it, for
// images without a shell. It reads GATEWAY_ADMIN_ADDR and no other variable:
// whether a secret's file can be read is not its question.
func health(ctx context.Context, args []string, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("health", flag.ContinueOnError)
	live := fs.Bool("live", false, "ask /livez, whether the process lives, instead of /readyz, whether it can serve")
	if _, err := parseFlags(fs, "gateway health [--live]", args, 0, stdout); err != nil {
		return err
	}
	address := adminAddr()
	if a, err := net.ResolveTCPAddr("tcp", address); err != nil || a.Port == 0 {
		return usageError{errors.New("GATEWAY_ADMIN_ADDR: must be an address with a port, such as 127.0.0.1:9090 or :9090")}
	}
	path := "/readyz"
	if *live {
		path = "/livez"
	}
	ctx, cancel := context.WithTimeout(ctx, healthDeadline)
	defer cancel()
	answer, err := askAdmin(ctx, address, path)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, answer)
	return err
}

// adminAddr is GATEWAY_ADMIN_ADDR, or its default.
func adminAddr() string {
	if address := os.Getenv("GATEWAY_ADMIN_ADDR"); address != "" {
		return address
	}
	field, _ := reflect.TypeFor[config]().FieldByName("AdminAddr")
	return field.Tag.Get("default")
}

// askAdmin returns the answer in one line if its status is 200, and an error
// with the answer otherwise. It dials the address itself, whatever proxy the
// environment names: an address without a host is this machine
// (https://pkg.go.dev/net#Dial).
func askAdmin(ctx context.Context, address, path string) (string, error) {
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway"+path, nil)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", path, err)
	}
	resp, err := client.Do(r)
	if err != nil {
		return "", fmt.Errorf("ask %s at %s: %w", path, address, errors.Unwrap(err))
	}
	defer resp.Body.Close() // it was only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, healthAnswer))
	if err != nil {
		return "", fmt.Errorf("read the answer of %s at %s: %w", path, address, err)
	}
	text := strings.Join(strings.Fields(string(body)), " ")
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %d: %s", path, resp.StatusCode, text)
	}
	return text, nil
}

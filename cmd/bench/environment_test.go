package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/auth"
)

// Where the gateway reads its secrets from files, the tools beside it must read
// the same files: else they sign with another secret, or ask for a variable that
// is set.
func TestEnvironmentIsReadAsTheGatewayReadsIt(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret, database := write("secret", testSecret+"\n"), write("database", "postgis://u@127.0.0.1/x\n")
	empty, word := write("empty", "\n"), write("word", "x")
	key := write("key", "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n")
	for name, c := range map[string]struct {
		env  map[string]string
		want string // of the error; empty: none
	}{
		"variables":                {map[string]string{"GATEWAY_JWT_SECRET": testSecret, "DATABASE_URL": "postgres://u@127.0.0.1/x"}, ""},
		"files":                    {map[string]string{"GATEWAY_JWT_SECRET_FILE": secret, "DATABASE_URL_FILE": database}, ""},
		"empty beside a file":      {map[string]string{"GATEWAY_JWT_SECRET": " ", "GATEWAY_JWT_SECRET_FILE": secret, "DATABASE_URL": "", "DATABASE_URL_FILE": database}, ""},
		"both":                     {map[string]string{"GATEWAY_JWT_SECRET": testSecret, "GATEWAY_JWT_SECRET_FILE": secret, "DATABASE_URL_FILE": database}, "GATEWAY_JWT_SECRET_FILE: GATEWAY_JWT_SECRET is set too"},
		"empty file":               {map[string]string{"GATEWAY_JWT_SECRET_FILE": secret, "DATABASE_URL_FILE": empty}, "DATABASE_URL_FILE: the file is empty"},
		"no file":                  {map[string]string{"GATEWAY_JWT_SECRET_FILE": secret, "DATABASE_URL_FILE": dir + "/nowhere"}, "DATABASE_URL_FILE: open the file: no such file"},
		"no connection string":     {map[string]string{"GATEWAY_JWT_SECRET_FILE": secret, "DATABASE_URL_FILE": word}, "DATABASE_URL: the connection string cannot be parsed"},
		"a key in place of secret": {map[string]string{"GATEWAY_JWT_SECRET_FILE": key, "DATABASE_URL_FILE": database}, "GATEWAY_JWT_SECRET: "},
		"neither":                  {map[string]string{"DATABASE_URL_FILE": database}, "GATEWAY_JWT_SECRET, GATEWAY_JWT_SECRET_FILE: one of them is required"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"GATEWAY_JWT_SECRET", "GATEWAY_JWT_SECRET_FILE", "DATABASE_URL", "DATABASE_URL_FILE"} {
				t.Setenv(variable, c.env[variable])
			}
			o, err := parseCheckLoss([]string{"--gateways", "http://x/", "--users", "5"}, os.Stdout)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), testSecret) {
					t.Errorf("%v, want %s", err, c.want)
				}
				return
			}
			if err != nil || !strings.HasSuffix(o.Load.URL, "://u@127.0.0.1/x") {
				t.Fatalf("%q, %v", o.Load.URL, err)
			}
			if _, err := newTestVerifier(t).Verify(t.Context(), o.Recipients[0].Token); err != nil {
				t.Error(err)
			}
		})
	}
}

func newTestVerifier(t *testing.T) *auth.Verifier {
	t.Helper()
	v, err := auth.New(auth.Config{Secrets: [][]byte{[]byte(testSecret)}, UserClaim: "user_id"})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

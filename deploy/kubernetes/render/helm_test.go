package render

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hold compares two renderings object by object.
func hold(t *testing.T, got, want objects) {
	t.Helper()
	for kind, object := range want {
		if got[kind] == nil {
			t.Errorf("the chart renders no %s", kind)
			continue
		}
		if g, w := plain(t, got[kind]), plain(t, object); g != w {
			t.Errorf("the %s of the chart is\n%s\nand of kustomize\n%s", kind, g, w)
		}
	}
	for kind := range got {
		if want[kind] == nil {
			t.Errorf("the chart renders a %s besides", kind)
		}
	}
}

// Two ways to the same objects drift apart when nobody compares them.
func TestChartRendersTheSame(t *testing.T) {
	hold(t, helm(t), kustomize(t, "base"))
	image := []string{"--set", "image.repository=registry.example.com/notification-gateway", "--set", "image.tag=v0.0.0", "--set", "monitoring.enabled=true"}
	hold(t, helm(t, append(image, "--set", "autoscaling.enabled=true", "--set", "httpRoute.enabled=true")...), kustomize(t, "overlays/gateway-api"))
	hold(t, helm(t, append(image, "--set", "ingress.enabled=true")...), kustomize(t, "overlays/ingress-nginx"))
}

// A chart that does not pass lint, or takes a misspelt value without a word, is
// found when somebody installs.
func TestChartRefusesWhatItDoesNotKnow(t *testing.T) {
	if out, err := tool(t, "helm", "lint", "--strict", chart); err != nil {
		t.Errorf("%s", out)
	}
	for _, set := range []string{
		"maxStream=1", "maxStreams=many", "autoscaling.maxReplicas=21", "env.GATEWAY_MAX_STREAMS=1", "env.PATH=1", "resources.limits=null", "name=Upper",
	} {
		if out, err := tool(t, "helm", "template", "x", chart, "--set-json", strings.NewReplacer("=many", `="many"`, "=Upper", `="Upper"`).Replace(set)); err == nil {
			t.Errorf("--set %s is taken:\n%s", set, out)
		}
	}
}

// Two releases in one namespace must not select each other's pods, a number of
// seven digits must not become 1e+06, and a variable must arrive.
func TestChartValues(t *testing.T) {
	values := filepath.Join(t.TempDir(), "values.yaml") // a number of --set is of another type
	if err := os.WriteFile(values, []byte("name: second\nmaxStreams: 1000000\ndrainSeconds: 60\nenv: {GATEWAY_STREAM_BUFFER: '1048576'}\nmigrate: {enabled: false}\nnetworkPolicy: {enabled: false}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := tool(t, "helm", "template", "x", chart, "--values", values)
	if err != nil {
		t.Fatal(err)
	}
	o := decode(t, text)
	if o["Job"] != nil || o["NetworkPolicy"] != nil {
		t.Error("the Job and the NetworkPolicy cannot be switched off")
	}
	for _, want := range []string{`value: "1000000"`, `value: "1048576"`, "value: 60s", "terminationGracePeriodSeconds: 75"} {
		if !strings.Contains(text, want) {
			t.Errorf("the chart does not render %s", want)
		}
	}
	if strings.Contains(text, "kubernetes.io/name: notification-gateway") {
		t.Error("a label has the name of another release")
	}
}

// The notes must render, with the commands for this release. Helm prints them in an
// installation alone, which asks a cluster, so a copy of the chart has them as an
// object.
func TestChartNotes(t *testing.T) {
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	notes, err := os.ReadFile(filepath.Join(copied, "templates/NOTES.txt"))
	if err != nil {
		t.Fatal(err)
	}
	object := "kind: Notes\nnotes: |\n  " + strings.ReplaceAll(string(notes), "\n", "\n  ")
	if err := os.WriteFile(filepath.Join(copied, "templates/notes.yaml"), []byte(object), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := tool(t, "helm", "template", "x", copied, "--namespace", "crm", "--show-only", "templates/notes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"kubectl -n crm rollout status deployment/notification-gateway", "exec deploy/notification-gateway -- /gateway check",
		"kubectl -n crm port-forward service/notification-gateway 8080:80", "Nothing routes to the Service",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the notes do not have %q:\n%s", want, text)
		}
	}
}

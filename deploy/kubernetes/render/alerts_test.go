package render

import (
	"os"
	"reflect"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

const ruleHead = `# Made of ../../../prometheus/alerts.yaml; a test holds the two against each other.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: notification-gateway
  labels: {app.kubernetes.io/name: notification-gateway}
spec:
`

// An alert that is mended in one of three places is not mended. With -update the
// two copies are made anew.
func TestAlertsAreTheSameEverywhere(t *testing.T) {
	text, err := os.ReadFile("../../prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		var rule strings.Builder
		rule.WriteString(ruleHead)
		_, groups, _ := strings.Cut(string(text), "groups:")
		for line := range strings.Lines("groups:" + groups) {
			rule.WriteString("  " + line)
		}
		for file, text := range map[string]string{"../components/monitoring/prometheusrule.yaml": rule.String(), chart + "/files/alerts.yaml": string(text)} {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	var want monitoring.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict(text, &want); err != nil {
		t.Fatal(err)
	}
	for who, o := range map[string]objects{
		"overlays/gateway-api": kustomize(t, "overlays/gateway-api"),
		"the chart":            helm(t, "--set", "monitoring.enabled=true"),
	} {
		if got := get[*monitoring.PrometheusRule](t, o, "PrometheusRule").Spec; len(got.Groups) == 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s has other alerts than alerts.yaml; go test ./... -update makes the copies anew", who)
		}
	}
}

package render

import (
	"bytes"
	"encoding/json"
	"flag"
	"os/exec"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "make the copies of alerts.yaml anew")

// objects are those of one rendering, by kind; each kind is there once at most.
type objects map[string]any

// kinds has all that we render, with the type that decodes it.
func kinds() map[string]func() any {
	return map[string]func() any{
		"apps/v1/Deployment":                      func() any { return &apps.Deployment{} },
		"autoscaling/v2/HorizontalPodAutoscaler":  func() any { return &autoscaling.HorizontalPodAutoscaler{} },
		"batch/v1/Job":                            func() any { return &batch.Job{} },
		"gateway.networking.k8s.io/v1/HTTPRoute":  func() any { return &gatewayapi.HTTPRoute{} },
		"monitoring.coreos.com/v1/PodMonitor":     func() any { return &monitoring.PodMonitor{} },
		"monitoring.coreos.com/v1/PrometheusRule": func() any { return &monitoring.PrometheusRule{} },
		"networking.k8s.io/v1/Ingress":            func() any { return &networking.Ingress{} },
		"networking.k8s.io/v1/NetworkPolicy":      func() any { return &networking.NetworkPolicy{} },
		"policy/v1/PodDisruptionBudget":           func() any { return &policy.PodDisruptionBudget{} },
		"v1/Service":                              func() any { return &core.Service{} },
		"v1/ServiceAccount":                       func() any { return &core.ServiceAccount{} },
	}
}

// tool runs a program of this module's go.mod, and returns what it prints.
func tool(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"tool"}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err = cmd.Run(); err != nil {
		t.Logf("%s: %v\n%s%s", strings.Join(args, " "), err, &out, &said)
	}
	return out.String(), err
}

// kustomize renders a folder.
func kustomize(t *testing.T, folder string) objects {
	t.Helper()
	text, err := tool(t, "kustomize", "build", "../"+folder)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, text)
}

// helm renders the chart.
func helm(t *testing.T, flags ...string) objects {
	t.Helper()
	text, err := tool(t, append([]string{"helm", "template", "notification-gateway", chart}, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, text)
}

const chart = "../../helm/notification-gateway"

// decode takes no field that the type does not have, and no key twice.
func decode(t *testing.T, text string) objects {
	t.Helper()
	known, out := kinds(), objects{}
	for document := range strings.SplitSeq("\n"+text, "\n---\n") {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(document), &head); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if head.Kind == "" {
			continue
		}
		construct, ok := known[head.APIVersion+"/"+head.Kind]
		if !ok {
			t.Errorf("%s/%s is of no kind that we know", head.APIVersion, head.Kind)
			continue
		}
		object := construct()
		if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
			t.Errorf("%s: %v", head.Kind, err)
		}
		if out[head.Kind] != nil {
			t.Errorf("there are two of %s", head.Kind)
		}
		out[head.Kind] = object
	}
	return out
}

// get returns the object of a type; it ends the test when there is none.
func get[T any](t *testing.T, o objects, kind string) T {
	t.Helper()
	object, ok := o[kind].(T)
	if !ok {
		t.Fatalf("there is no %s", kind)
	}
	return object
}

// plain is an object as JSON has it, without its namespace and what is for Helm
// alone.
func plain(t *testing.T, object any) string {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	metadata := tree["metadata"].(map[string]any)
	delete(metadata, "namespace")
	if annotations, ok := metadata["annotations"].(map[string]any); ok {
		for name := range annotations {
			if strings.HasPrefix(name, "helm.sh/") {
				delete(annotations, name)
			}
		}
		if len(annotations) == 0 {
			delete(metadata, "annotations")
		}
	}
	text, err = json.MarshalIndent(tree, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

package render

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// matches reports whether a selector names something, and those labels have it.
func matches(selector, labels map[string]string) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return len(selector) > 0
}

// An empty selector is the whole namespace in a NetworkPolicy and a
// PodDisruptionBudget, and a Service that also selects the Job sends streams to it.
func TestSelectors(t *testing.T) {
	for _, folder := range renderings[:3] {
		o := kustomize(t, folder)
		d := get[*apps.Deployment](t, o, "Deployment")
		gateway, job := d.Spec.Template.Labels, get[*batch.Job](t, o, "Job").Spec.Template.Labels
		network := get[*networking.NetworkPolicy](t, o, "NetworkPolicy")
		selectors := map[string]map[string]string{
			"Deployment":          d.Spec.Selector.MatchLabels,
			"Service":             get[*core.Service](t, o, "Service").Spec.Selector,
			"PodDisruptionBudget": get[*policy.PodDisruptionBudget](t, o, "PodDisruptionBudget").Spec.Selector.MatchLabels,
		}
		if m, ok := o["PodMonitor"].(*monitoring.PodMonitor); ok {
			selectors["PodMonitor"] = m.Spec.Selector.MatchLabels
		}
		for kind, selector := range selectors {
			if !matches(selector, gateway) {
				t.Errorf("%s: the %s does not select the gateways: %v", folder, kind, selector)
			}
			if matches(selector, job) {
				t.Errorf("%s: the %s selects the Job too: %v", folder, kind, selector)
			}
		}
		if s := network.Spec.PodSelector.MatchLabels; !matches(s, gateway) || !matches(s, job) {
			t.Errorf("%s: the NetworkPolicy does not select all pods: %v", folder, s)
		}
	}
}

// A port that no container has is no error in a cluster: nothing arrives.
func TestPorts(t *testing.T) {
	for _, folder := range renderings {
		o := kustomize(t, folder)
		names := map[string]bool{}
		for _, c := range containers(get[*apps.Deployment](t, o, "Deployment").Spec.Template.Spec) {
			for _, p := range c.Ports {
				names[p.Name] = true
			}
		}
		hold := func(who string, port intstr.IntOrString) {
			if port.Type != intstr.String || !names[port.StrVal] {
				t.Errorf("%s: %s names the port %v, which no container has", folder, who, &port)
			}
		}
		service := get[*core.Service](t, o, "Service")
		for _, p := range service.Spec.Ports {
			hold("the Service", p.TargetPort)
		}
		if n, ok := o["NetworkPolicy"].(*networking.NetworkPolicy); ok {
			for _, rule := range n.Spec.Ingress {
				for _, p := range rule.Ports {
					hold("the NetworkPolicy", *p.Port)
				}
				if rule.Ports[0].Port.StrVal == "admin" && len(rule.From) == 0 {
					t.Errorf("%s: everybody reaches the admin port", folder)
				}
			}
		}
		if m, ok := o["PodMonitor"].(*monitoring.PodMonitor); ok {
			for _, e := range m.Spec.PodMetricsEndpoints {
				hold("the PodMonitor", intstr.FromString(*e.Port))
			}
		}
	}
}

// Each way in must lead to the Service, and leave a stream time without end.
func TestRoutes(t *testing.T) {
	o := kustomize(t, "overlays/gateway-api")
	service := get[*core.Service](t, o, "Service")
	rule := get[*gatewayapi.HTTPRoute](t, o, "HTTPRoute").Spec.Rules[0]
	if rule.Timeouts == nil || rule.Timeouts.Request == nil || *rule.Timeouts.Request != "0s" {
		t.Errorf("the route's timeouts are %+v", rule.Timeouts)
	}
	if b := rule.BackendRefs[0]; string(b.Name) != service.Name || b.Port == nil || int32(*b.Port) != service.Spec.Ports[0].Port {
		t.Errorf("the route leads to %+v", b)
	}

	o = kustomize(t, "overlays/ingress-nginx")
	ingress := get[*networking.Ingress](t, o, "Ingress")
	for name, want := range map[string]string{
		"proxy-buffering": "off", "proxy-read-timeout": "90", "proxy-next-upstream": "error timeout http_503", "enable-access-log": "false",
	} {
		if got := ingress.Annotations["nginx.ingress.kubernetes.io/"+name]; got != want {
			t.Errorf("the annotation %s is %q, want %q", name, got, want)
		}
	}
	if b := ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service; b.Name != service.Name || b.Port.Name != service.Spec.Ports[0].Name {
		t.Errorf("the Ingress leads to %+v", b)
	}
}

// When all replicas are full the Service is empty, so the target must be well below
// the limit; each replica costs Postgres, so there are at most 20.
func TestAutoscaling(t *testing.T) {
	o := kustomize(t, "overlays/gateway-api")
	d := get[*apps.Deployment](t, o, "Deployment")
	h := get[*autoscaling.HorizontalPodAutoscaler](t, o, "HorizontalPodAutoscaler")
	if h.Spec.ScaleTargetRef.Name != d.Name || h.Spec.ScaleTargetRef.Kind != "Deployment" || h.Spec.MaxReplicas > 20 || *h.Spec.MinReplicas < 2 {
		t.Errorf("the autoscaler is %+v", h.Spec)
	}
	pods := h.Spec.Metrics[0].Pods
	for _, v := range d.Spec.Template.Spec.Containers[0].Env {
		if v.Name == "GATEWAY_MAX_STREAMS" && v.Value != "28000" {
			t.Errorf("the target was set for 28000 streams, the limit is %s", v.Value)
		}
	}
	if pods.Target.AverageValue.Value() > 28000*6/10 {
		t.Errorf("the target of %s is near the limit", pods.Target.AverageValue)
	}
	if down := h.Spec.Behavior.ScaleDown; *down.StabilizationWindowSeconds < 600 || down.Policies[0].Value != 1 {
		t.Errorf("the autoscaler takes replicas away as %+v", down)
	}
	text, err := os.ReadFile("../components/autoscaling/prometheus-adapter.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var adapter struct {
		Rules []struct {
			SeriesQuery string                  `json:"seriesQuery"`
			Resources   struct{ Overrides any } `json:"resources"`
			Name        struct{ Matches, As string }
			Query       string `json:"metricsQuery"`
		} `json:"rules"`
	}
	if err := yaml.UnmarshalStrict(text, &adapter); err != nil {
		t.Fatal(err)
	}
	if r := adapter.Rules[0]; r.Name.As != pods.Metric.Name || !strings.HasPrefix(r.SeriesQuery, pods.Metric.Name+"{") {
		t.Errorf("the adapter's rule makes %+v, the autoscaler asks for %s", r, pods.Metric.Name)
	}
}

// A component that no overlay uses is rendered by nobody.
func TestEveryComponentIsUsed(t *testing.T) {
	folders, err := filepath.Glob("../components/*")
	if err != nil || len(folders) != 4 {
		t.Fatalf("%v %v", folders, err)
	}
	var all strings.Builder
	overlays, err := filepath.Glob("../overlays/*/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range overlays {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, folder := range folders {
		if !strings.Contains(all.String(), "../../components/"+filepath.Base(folder)) {
			t.Errorf("no overlay uses %s", folder)
		}
	}
}

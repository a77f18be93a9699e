package render

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
)

var renderings = []string{"base", "overlays/gateway-api", "overlays/ingress-nginx", "overlays/sidecar"}

// A manifest that a cluster refuses, or a pod that a namespace with the restricted
// standard of pod security does not admit, is found when somebody installs.
func TestPodsAreRestricted(t *testing.T) {
	for _, folder := range renderings {
		for name, pod := range pods(kustomize(t, folder)) {
			holdRestricted(t, folder+" "+name, pod.Spec)
		}
	}
}

// pods are the templates of a rendering, by kind.
func pods(o objects) map[string]core.PodTemplateSpec {
	out := map[string]core.PodTemplateSpec{}
	if d, ok := o["Deployment"].(*apps.Deployment); ok {
		out["Deployment"] = d.Spec.Template
	}
	if j, ok := o["Job"].(*batch.Job); ok {
		out["Job"] = j.Spec.Template
	}
	return out
}

func containers(pod core.PodSpec) []core.Container {
	return append(slices.Clone(pod.InitContainers), pod.Containers...)
}

// holdRestricted holds a pod against https://kubernetes.io/docs/concepts/security/pod-security-standards/.
func holdRestricted(t *testing.T, who string, pod core.PodSpec) {
	t.Helper()
	yes := func(b *bool) bool { return b != nil && *b }
	no := func(b *bool) bool { return b != nil && !*b }
	if s := pod.SecurityContext; s == nil || !yes(s.RunAsNonRoot) || s.RunAsUser == nil || *s.RunAsUser == 0 ||
		s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: the pod's security context is not that of the restricted standard", who)
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Errorf("%s: the pod has namespaces of the host", who)
	}
	if !no(pod.AutomountServiceAccountToken) {
		t.Errorf("%s: the pod has a token of the API server", who)
	}
	for _, v := range pod.Volumes {
		if v.Secret == nil || v.Secret.DefaultMode == nil {
			t.Errorf("%s: volume %s is no secret with a mode", who, v.Name)
		}
	}
	for _, c := range containers(pod) {
		s := c.SecurityContext
		if s == nil || !no(s.AllowPrivilegeEscalation) || s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") || len(s.Capabilities.Add) > 0 {
			t.Errorf("%s: container %s may gain rights", who, c.Name)
		}
		if strings.Contains(c.Image, "notification-gateway") && !yes(s.ReadOnlyRootFilesystem) {
			t.Errorf("%s: container %s may write", who, c.Name)
		}
		if _, limited := c.Resources.Limits[core.ResourceMemory]; !limited || c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() {
			t.Errorf("%s: container %s has no requests or no limit of memory", who, c.Name)
		}
		for _, m := range c.VolumeMounts {
			if m.SubPath != "" || m.SubPathExpr != "" {
				t.Errorf("%s: container %s mounts a subPath, which is never updated", who, c.Name)
			}
			if !slices.ContainsFunc(pod.Volumes, func(v core.Volume) bool { return v.Name == m.Name }) {
				t.Errorf("%s: container %s mounts %s, which the pod does not have", who, c.Name, m.Name)
			}
		}
	}
}

// A variable that the program does not read leaves its default in force, a probe
// on a port that is not there kills the pod, and more streams than the memory
// limit bears get it killed.
func TestGatewayContainers(t *testing.T) {
	known := knownVariables(t)
	for _, folder := range renderings {
		for name, pod := range pods(kustomize(t, folder)) {
			for _, c := range containers(pod.Spec) {
				if strings.Contains(c.Image, "notification-gateway") {
					holdGateway(t, fmt.Sprintf("%s %s %s", folder, name, c.Name), pod.Spec, c, known)
				}
			}
		}
	}
}

func holdGateway(t *testing.T, who string, pod core.PodSpec, c core.Container, known map[string]bool) {
	t.Helper()
	environment := map[string]string{}
	for _, v := range c.Env {
		if !known[v.Name] {
			t.Errorf("%s: the gateway does not read %s", who, v.Name)
		}
		environment[v.Name] = v.Value
		if strings.HasSuffix(v.Name, "_FILE") && !mounted(pod, c, v.Value) {
			t.Errorf("%s: %s is in no volume", who, v.Value)
		}
	}
	if environment["DATABASE_URL_FILE"] == "" {
		t.Errorf("%s: it has no DATABASE_URL_FILE", who)
	}
	if slices.Contains(c.Args, "migrate") {
		return
	}
	ports := map[string]int32{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	if environment["GATEWAY_ADMIN_ADDR"] != fmt.Sprintf(":%d", ports["admin"]) {
		t.Errorf("%s: the port admin is not that of GATEWAY_ADMIN_ADDR", who)
	}
	if pod.EnableServiceLinks != nil && *pod.EnableServiceLinks {
		t.Errorf("%s: enableServiceLinks is not off", who)
	}
	drain, err := time.ParseDuration(environment["GATEWAY_DRAIN"])
	if err != nil || pod.TerminationGracePeriodSeconds == nil || *pod.TerminationGracePeriodSeconds <= int64(drain.Seconds()) {
		t.Errorf("%s: the pod is killed before GATEWAY_DRAIN (%v) is over", who, err)
	}
	streams, err := strconv.ParseInt(environment["GATEWAY_MAX_STREAMS"], 10, 64)
	limit := c.Resources.Limits.Memory().Value()
	if err != nil || limit < 32<<20+streams*8<<10 {
		t.Errorf("%s: %d bytes do not bear GATEWAY_MAX_STREAMS of %d (%v)", who, limit, streams, err)
	}
	for what, p := range map[string]*core.Probe{"liveness": c.LivenessProbe, "readiness": c.ReadinessProbe, "startup": c.StartupProbe} {
		if p == nil {
			continue
		}
		path := map[string]string{"liveness": "/livez", "readiness": "/readyz", "startup": "/livez"}[what]
		if p.HTTPGet == nil || p.HTTPGet.Port.StrVal != "admin" || p.HTTPGet.Path != path {
			t.Errorf("%s: the %s probe is %+v", who, what, p.ProbeHandler)
		}
	}
	if c.LivenessProbe == nil {
		t.Errorf("%s: there is no liveness probe", who)
	}
}

// mounted reports whether a file is directly in a volume of secrets.
func mounted(pod core.PodSpec, c core.Container, path string) bool {
	for _, m := range c.VolumeMounts {
		name, inside := strings.CutPrefix(path, m.MountPath+"/")
		if inside && !strings.Contains(name, "/") && m.ReadOnly {
			return slices.ContainsFunc(pod.Volumes, func(v core.Volume) bool { return v.Name == m.Name && v.Secret != nil })
		}
	}
	return false
}

// knownVariables reads the names from the source of the program's configuration.
func knownVariables(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../../cmd/gateway/config.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if field, ok := n.(*ast.Field); ok && field.Tag != nil {
			tag, _ := strconv.Unquote(field.Tag.Value)
			if name := reflect.StructTag(tag).Get("envconfig"); name != "" {
				known[name] = true
				if strings.HasSuffix(name, "_URL") || strings.HasSuffix(name, "_SECRET") {
					known[name+"_FILE"] = true
				}
			}
		}
		return true
	})
	if len(known) < 20 {
		t.Fatalf("only %d variables were found", len(known))
	}
	return known
}

// The Deployment must lose no stream by a rollout, ask often enough, and leave the
// number of replicas to the autoscaler where there is one.
func TestDeployment(t *testing.T) {
	for _, folder := range renderings[:3] {
		o := kustomize(t, folder)
		d := get[*apps.Deployment](t, o, "Deployment")
		r := d.Spec.Strategy.RollingUpdate
		if r == nil || r.MaxUnavailable.IntValue() != 0 || r.MaxSurge.IntValue() != 1 || r.MaxUnavailable.StrVal != "" {
			t.Errorf("%s: the rollout is %+v", folder, r)
		}
		if scaled := o["HorizontalPodAutoscaler"] != nil; scaled != (d.Spec.Replicas == nil) {
			t.Errorf("%s: replicas is %v, and autoscaled is %v", folder, d.Spec.Replicas, scaled)
		}
		pod := d.Spec.Template.Spec
		if p := pod.Containers[0].ReadinessProbe; p == nil || p.PeriodSeconds != 2 {
			t.Errorf("%s: the readiness probe is %+v", folder, p)
		}
		if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
			t.Errorf("%s: enableServiceLinks is not off", folder)
		}
		if s := pod.TopologySpreadConstraints; len(s) != 1 || s[0].LabelSelector == nil || !matches(s[0].LabelSelector.MatchLabels, d.Spec.Template.Labels) {
			t.Errorf("%s: the pods are not spread over nodes: %+v", folder, s)
		}
		account := get[*core.ServiceAccount](t, o, "ServiceAccount")
		if pod.ServiceAccountName != account.Name || account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken {
			t.Errorf("%s: the service account is %s with %+v", folder, pod.ServiceAccountName, account)
		}
		job := get[*batch.Job](t, o, "Job").Spec.Template.Spec
		if got := job.Volumes[0].Secret.SecretName; got == pod.Volumes[0].Secret.SecretName {
			t.Errorf("%s: the gateways and the Job, which has the owner's rights, share the Secret %s", folder, got)
		}
	}
}

// In a pod of the CRM the gateway must start first and end last, and must not take
// the CRM out of its Service.
func TestSidecar(t *testing.T) {
	o := kustomize(t, "overlays/sidecar")
	pod := get[*apps.Deployment](t, o, "Deployment").Spec.Template.Spec
	if len(pod.InitContainers) != 1 || len(pod.Containers) != 1 {
		t.Fatalf("%d init containers, %d containers", len(pod.InitContainers), len(pod.Containers))
	}
	c := pod.InitContainers[0]
	if c.RestartPolicy == nil || *c.RestartPolicy != core.ContainerRestartPolicyAlways {
		t.Error("the gateway is no native sidecar")
	}
	if c.ReadinessProbe != nil || c.StartupProbe == nil {
		t.Error("a sidecar has a startup probe and no readiness probe")
	}
	if *pod.TerminationGracePeriodSeconds < 30+30 {
		t.Errorf("%d s are less than the CRM's 30 s and the drain", *pod.TerminationGracePeriodSeconds)
	}
}

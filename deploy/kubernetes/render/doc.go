// Package render tests the manifests of Kubernetes and the Helm chart: it renders
// them with the real programs and decodes them strictly, without a cluster. It is a
// module of its own, so that the service's go.mod does not grow by what that needs.
package render

// Command helm renders the chart the way `helm template` does, with its own values and with a file of values that turns
// everything on. Every object is decoded strictly into the types of Kubernetes and of the Prometheus operator, so that an unknown
// field or a value of another type is an error. The objects of the default values are those of the plain manifest.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"sort"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

const head = "# The Helm chart with its default values, for `kubectl apply --filename`. Change the ConfigMap and the image.\n"

// kinds has an empty object for each kind that the chart makes. KEDA's have no types here: only their YAML is checked.
var kinds = map[string]func() any{
	"apps/v1/Deployment":                      func() any { return new(apps.Deployment) },
	"v1/ConfigMap":                            func() any { return new(core.ConfigMap) },
	"v1/ServiceAccount":                       func() any { return new(core.ServiceAccount) },
	"policy/v1/PodDisruptionBudget":           func() any { return new(policy.PodDisruptionBudget) },
	"networking.k8s.io/v1/NetworkPolicy":      func() any { return new(networking.NetworkPolicy) },
	"monitoring.coreos.com/v1/PodMonitor":     func() any { return new(monitoring.PodMonitor) },
	"monitoring.coreos.com/v1/PrometheusRule": func() any { return new(monitoring.PrometheusRule) },
	"keda.sh/v1alpha1/ScaledObject":           func() any { return new(map[string]any) },
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: helm CHART VALUES MANIFEST")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(chart, values, manifest string) error {
	plain, err := render(chart, "")
	if err != nil {
		return err
	}
	count, err := check(plain)
	if err != nil {
		return err
	}
	all, err := render(chart, values)
	if err != nil {
		return err
	}
	more, err := check(all)
	if err != nil {
		return err
	}
	if more < len(kinds) {
		return fmt.Errorf("%s makes %d objects; it must turn on all %d kinds", values, more, len(kinds))
	}
	written, err := os.ReadFile(manifest)
	if right := head + plain; err != nil || string(written) != right {
		made := path.Join(os.TempDir(), path.Base(manifest))
		if err := os.WriteFile(made, []byte(right), 0o644); err != nil {
			return err
		}
		return fmt.Errorf("%s is not what the chart makes; take %s in its place", manifest, made)
	}
	fmt.Printf("%s: %d objects by default, %d with everything\n", chart, count, more)
	return nil
}

// render gives all objects of the chart, in the order of their files.
func render(dir, file string) (string, error) {
	chart, err := loader.Load(dir)
	if err != nil {
		return "", err
	}
	values := chartutil.Values{}
	if file != "" {
		if values, err = chartutil.ReadValuesFile(file); err != nil {
			return "", err
		}
	}
	options := chartutil.ReleaseOptions{Name: "spanmill", Namespace: "default", IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, values, options, nil)
	if err != nil {
		return "", err
	}
	rendered, err := engine.Engine{Strict: true}.Render(chart, all)
	if err != nil {
		return "", err
	}
	names := make([]string, 0, len(rendered))
	for name := range rendered {
		if strings.HasSuffix(name, ".yaml") && strings.TrimSpace(rendered[name]) != "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var out strings.Builder
	for _, name := range names {
		for _, object := range strings.Split("\n"+rendered[name], "\n---\n") {
			if object := strings.TrimSpace(object); object != "" {
				out.WriteString("---\n" + object + "\n")
			}
		}
	}
	return out.String(), nil
}

// check decodes each object, and says how many there are.
func check(text string) (int, error) {
	count := 0
	for _, object := range strings.Split("\n"+text, "\n---\n") {
		if strings.TrimSpace(object) == "" {
			continue
		}
		var named struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Metadata   struct {
				Name string `json:"name"`
			} `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(object), &named); err != nil {
			return 0, fmt.Errorf("%w in\n%s", err, object)
		}
		kind := named.APIVersion + "/" + named.Kind
		empty, known := kinds[kind]
		if !known || named.Metadata.Name == "" {
			return 0, fmt.Errorf("an object of the kind %q with the name %q", kind, named.Metadata.Name)
		}
		into := empty()
		if err := yaml.UnmarshalStrict([]byte(object), into); err != nil {
			return 0, fmt.Errorf("%s %s: %w", kind, named.Metadata.Name, err)
		}
		// What was read is what was written: nothing has got lost.
		if again, err := yaml.Marshal(into); err != nil || len(bytes.TrimSpace(again)) == 0 {
			return 0, fmt.Errorf("%s %s is empty", kind, named.Metadata.Name)
		}
		count++
	}
	return count, nil
}

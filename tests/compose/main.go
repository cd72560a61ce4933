// Command compose loads the compose file the way `docker compose config` does: it checks the file against the compose
// schema, and what the schema cannot express: images are pinned, mounted files exist, and no service waits for the
// health of a service that has no health check.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/cli"
	"github.com/compose-spec/compose-go/types"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: compose FILE")
		os.Exit(2)
	}
	project, err := load(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	problems := check(project)
	for _, problem := range problems {
		fmt.Fprintln(os.Stderr, problem)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
	fmt.Printf("%s: %d services are valid\n", os.Args[1], len(project.Services))
}

// load parses, validates against the schema, and resolves paths.
func load(path string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{path}, cli.WithResolvedPaths(true), cli.WithConsistency(true))
	if err != nil {
		return nil, err
	}
	return cli.ProjectFromOptions(options)
}

func check(project *types.Project) []string {
	var problems []string
	say := func(service, format string, args ...any) {
		problems = append(problems, service+": "+fmt.Sprintf(format, args...))
	}
	healthy := map[string]bool{}
	for _, service := range project.Services {
		healthy[service.Name] = service.HealthCheck != nil && len(service.HealthCheck.Test) > 0
	}
	for _, service := range project.Services {
		if service.Build == nil && !pinned(service.Image) {
			say(service.Name, "image %q is not pinned to a version", service.Image)
		}
		if service.Build != nil {
			dockerfile, err := dockerfile(service.Build)
			if err != nil {
				say(service.Name, "is built from a Dockerfile that cannot be read: %v", err)
			}
			for _, line := range strings.Split(dockerfile, "\n") {
				fields := strings.Fields(line)
				if len(fields) > 1 && fields[0] == "FROM" && !pinned(fields[1]) {
					say(service.Name, "base image %q is not pinned to a version", fields[1])
				}
			}
		}
		// No service asks for the health of a job.
		if job := service.Restart == "no" || service.Restart == "on-failure"; !job && !healthy[service.Name] {
			say(service.Name, "has no health check")
		}
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(volume.Source); err != nil {
				say(service.Name, "mounts %s, which is not there", filepath.Base(volume.Source))
			}
		}
		for name, dependency := range service.DependsOn {
			if dependency.Condition == types.ServiceConditionHealthy && !healthy[name] {
				say(service.Name, "waits for the health of %s, which has no health check", name)
			}
		}
	}
	return problems
}

// dockerfile returns what an image is built from: the text in the compose file, or the file that it names.
func dockerfile(build *types.BuildConfig) (string, error) {
	if build.DockerfileInline != "" {
		return build.DockerfileInline, nil
	}
	name := build.Dockerfile
	if name == "" {
		name = "Dockerfile"
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(build.Context, name)
	}
	text, err := os.ReadFile(name)
	return string(text), err
}

// pinned tells whether an image names a version: a tag that is not "latest".
func pinned(image string) bool {
	_, tag, found := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	return found && tag != "latest" && strings.ContainsAny(tag, "0123456789")
}

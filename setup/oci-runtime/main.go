// An OCI runtime for machines whose root lacks CAP_SYS_RESOURCE: it takes out of each request what
// such a root can't grant, and hands the rest to runc. Without it `docker run --privileged` and
// every `docker exec` into such a container fail with "unable to apply caps". Set-up makes it
// Docker's default runtime on those machines only, by a flag of the daemon it starts.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const missing = "CAP_SYS_RESOURCE"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kchaos oci-runtime:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if file, process := request(args); file != "" {
		if err := edit(file, process); err != nil {
			return err
		}
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return err
	}
	return syscall.Exec(runc, append([]string{"runc"}, args...), os.Environ())
}

// request finds the file that describes the process to be started, if the command starts one:
// the bundle's config for create and run (process is one field of it), a file of its own for exec.
func request(args []string) (file string, isProcess bool) {
	command, bundle, process := "", ".", ""
	for i, arg := range args {
		name, value, inline := strings.Cut(arg, "=")
		if !inline && i+1 < len(args) {
			value = args[i+1]
		}
		switch {
		case name == "--bundle" || name == "-b":
			bundle = value
		case name == "--process" || name == "-p":
			process = value
		case command == "" && (arg == "create" || arg == "run" || arg == "exec"):
			command = arg
		}
	}
	switch command {
	case "create", "run":
		return filepath.Join(bundle, "config.json"), false
	case "exec":
		return process, true
	}
	return "", false
}

func edit(file string, isProcess bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber() // 64-bit ids must survive
	if err := decoder.Decode(&spec); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	process := spec
	if !isProcess {
		process, _ = spec["process"].(map[string]any)
	}
	restrict(process)
	if text, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

func restrict(process map[string]any) {
	sets, _ := process["capabilities"].(map[string]any)
	for name, set := range sets {
		list, _ := set.([]any)
		kept := make([]any, 0, len(list))
		for _, capability := range list {
			if capability != missing {
				kept = append(kept, capability)
			}
		}
		sets[name] = kept
	}
	// Both need the capability: raising a limit, and lowering the badness below the parent's.
	delete(process, "rlimits")
	if score, ok := process["oomScoreAdj"].(json.Number); ok && strings.HasPrefix(score.String(), "-") {
		delete(process, "oomScoreAdj")
	}
}

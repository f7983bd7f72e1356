package image

import "slices"

// BuiltIn returns the recipe of the built-in template name.
func BuiltIn(name string) (Recipe, bool) {
	for _, r := range builtIn() {
		if r.Name == name {
			return r, true
		}
	}
	return Recipe{}, false
}

// BuiltInNames returns the names of all built-in templates, the default one first.
func BuiltInNames() []string {
	var names []string
	for _, r := range builtIn() {
		names = append(names, r.Name)
	}
	return names
}

func builtIn() []Recipe { return []Recipe{Minimal(), Base(), CodeInterpreter(), Desktop()} }

// basic lists the packages of every built-in template: Python and the small tools that
// people and programs expect.
func basic() []string {
	return []string{
		"bash", "ca-certificates", "coreutils", "curl", "file", "git", "iproute2", "jq", "less", "nano",
		"ncurses-bin", "netbase", "procps", "python-is-python3", "python3", "python3-pip", "python3-venv", "sudo", "unzip", "xz-utils",
	}
}

// basicCommands run in every built-in template.
func basicCommands() []string {
	return []string{
		// A sandbox is thrown away, so pip may install beside Debian's packages.
		"rm -f /usr/lib/python3*/EXTERNALLY-MANAGED",
		// The user that the guest agent makes may become root: programs that
		// install packages with sudo are to run as they are.
		"echo 'user ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/user && chmod 0440 /etc/sudoers.d/user",
	}
}

// Minimal is the recipe of the default template.
func Minimal() Recipe {
	return Recipe{Name: "minimal", Suite: Suite, Packages: basic(), Commands: basicCommands()}
}

// Base is the recipe of the template that E2B's clients ask for if their user names
// none. It adds compilers, Node.js and the tools that programs written for it call.
func Base() Recipe {
	return Recipe{
		Name: "base", Suite: Suite, Commands: basicCommands(),
		Packages: slices.Concat(basic(), []string{"build-essential", "nodejs", "openssh-client", "rsync", "wget", "zip"}),
	}
}

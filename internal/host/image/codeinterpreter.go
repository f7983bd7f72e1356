package image

import (
	"embed"
	"slices"
)

// interpreter holds the server of the code interpreter, its kernels, and the modules that the Python
// kernel loads.
//
//go:embed interpreter
var interpreter embed.FS

// interpreterFiles lists the places of the embedded files in the guest.
var interpreterFiles = []File{
	{Path: "/usr/local/lib/code-interpreter/run", Mode: 0o755, Content: "run.sh"},
	{Path: "/usr/local/lib/code-interpreter/server.py", Mode: 0o644, Content: "server.py"},
	{Path: "/usr/local/lib/code-interpreter/script_kernel.py", Mode: 0o644, Content: "script_kernel.py"},
	{Path: "/usr/local/lib/code-interpreter/driver.js", Mode: 0o644, Content: "driver.js"},
	{Path: "/usr/lib/python3/dist-packages/code_interpreter.py", Mode: 0o644, Content: "code_interpreter.py"},
	{Path: "/usr/local/share/jupyter/kernels/python3/kernel.json", Mode: 0o644, Content: "python3.json"},
	{Path: "/usr/local/share/jupyter/kernels/bash/kernel.json", Mode: 0o644, Content: "bash.json"},
	{Path: "/usr/local/share/jupyter/kernels/javascript/kernel.json", Mode: 0o644, Content: "javascript.json"},
	{Path: "/usr/local/share/jupyter/kernels/java/kernel.json", Mode: 0o644, Content: "java.json"},
	{Path: "/usr/local/share/jupyter/kernels/ir/kernel.json", Mode: 0o644, Content: "ir.json"},
}

// CodeInterpreter is the recipe of the template that E2B's code interpreter uses: Jupyter
// kernels behind a server on port 49999, which run in the template's snapshot. It has
// some 1 GB.
func CodeInterpreter() Recipe {
	r := Recipe{
		Name: "code-interpreter-v1", Suite: Suite,
		Commands: append(basicCommands(),
			// The packages' own tests take 130 MB. Their installation fails if they are excluded.
			"find /usr/lib/python3/dist-packages -type d -name tests -prune -exec rm -rf {} +",
			compileDriver(),
		),
		Packages: slices.Concat(basic(), []string{
			"esbuild", "libopenblas0-pthread", "nodejs", "openjdk-17-jdk-headless", "python3-aiohttp", "python3-ipykernel", "python3-jupyter-client",
			"python3-matplotlib", "python3-numpy", "python3-pandas", "r-cran-irkernel",
			// It is an alternative to scipy, which depends on compilers: 500 MB.
			"python3-munkres",
		}),
		Exclude: []string{
			// The database of Unicode, which a dependency has, takes 40 MB.
			"/usr/share/unicode/*",
			// jlink alone needs the modules, 73 MB, and heaps of 32 GB alone the archive, 12 MB.
			"/usr/lib/jvm/*/jmods/*", "/usr/lib/jvm/*/classes_nocoops.jsa",
			// The package links manual pages to a directory that templates do not have.
			"/usr/lib/jvm/*/man/*",
		},
		Start: Start{
			Command: "exec /usr/local/lib/code-interpreter/run",
			Ready:   "exec curl -fsS --max-time 5 http://127.0.0.1:49999/health",
			// Under software emulation the imports alone take most of two minutes, and the server
			// gives a kernel five.
			ReadySec:    600,
			RenewedPort: 49999, RenewedPath: "/renewed",
		},
		Space: 2560 << 20,
	}
	for _, f := range interpreterFiles {
		f.Content = embedded(f.Content)
		r.Files = append(r.Files, f)
	}
	return r
}

// embedded returns the content of a file of the code interpreter.
func embedded(name string) string {
	content, err := interpreter.ReadFile("interpreter/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	return string(content)
}

// compileDriver returns the command that compiles the driver of the kernel for Java, so that
// a kernel need not do that at its start. The command has the source itself, because the files of a
// recipe are written after its commands.
func compileDriver() string {
	const lib = "/usr/local/lib/code-interpreter"
	return "set -e\numask 022\nmkdir -p " + lib + "\ncd $(mktemp -d)\ncat >Driver.java <<'END OF DRIVER'\n" + embedded("Driver.java") + "END OF DRIVER\n" +
		"javac -nowarn -XDignore.symbol.file Driver.java\njar --create --file=" + lib + "/driver.jar *.class"
}

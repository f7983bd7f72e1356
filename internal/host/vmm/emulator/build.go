package emulator

import (
	"path/filepath"
)

// Build is one build of the emulator and the files it consists of. It is
// immutable: another library or ROM makes another Build.
type Build struct {
	// ID names the build and its directory: a digest over the names and the
	// content of Files.
	ID string `json:"id"`
	// Digest is that of the binary alone. A snapshot can only be restored by a
	// binary with the digest it was taken under.
	Digest string `json:"digest"`
	// Firmware is a digest over the ROM images, whose sizes are part of the
	// device state.
	Firmware string `json:"firmware"`
	// Version is the version that the binary reports, such as "10.0.2".
	Version string `json:"version"`
	// Binary, Loader and the directories are paths below Dir. Loader is empty
	// for a static binary, ModuleDir for a build without loadable modules.
	Binary    string `json:"binary"`
	Loader    string `json:"loader,omitempty"`
	LibDir    string `json:"lib_dir,omitempty"`
	DataDir   string `json:"data_dir"`
	ModuleDir string `json:"module_dir,omitempty"`
	// Files are all files below Dir that the build consists of.
	Files []File `json:"files"`

	// Dir is the absolute path of the directory that holds the files.
	Dir string `json:"-"`
}

// File is one file of a Build.
type File struct {
	// Path is relative to the build's directory.
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	// Source is the installed file that the copy was made from.
	Source Source `json:"source"`
}

// Source identifies an installed file. Two equal Sources have the same
// content: package managers replace files and never write into them.
type Source struct {
	Path         string `json:"path"`
	Inode        uint64 `json:"inode"`
	Bytes        int64  `json:"bytes"`
	ModifiedNano int64  `json:"modified_nano"`
	ChangedNano  int64  `json:"changed_nano"`
}

// Bytes returns the size of all files of b.
func (b Build) Bytes() (n int64) {
	for _, f := range b.Files {
		n += f.Bytes
	}
	return n
}

// Command returns the program to execute, its arguments (the first is the
// program's name) and the environment variables that it needs in order to run
// b with args. root is the path under which the new process sees b.Dir: b.Dir
// itself, or the place where a jail has bound it.
func (b Build) Command(root string, args ...string) (path string, argv, env []string) {
	binary := filepath.Join(root, b.Binary)
	path, argv = binary, []string{binary}
	if b.Loader != "" {
		path = filepath.Join(root, b.Loader)
		argv = []string{path, "--inhibit-cache", "--library-path", filepath.Join(root, b.LibDir), binary}
	}
	if b.ModuleDir != "" {
		env = append(env, "QEMU_MODULE_DIR="+filepath.Join(root, b.ModuleDir))
	}
	argv = append(argv, "-L", filepath.Join(root, b.DataDir))
	return path, append(argv, args...), env
}

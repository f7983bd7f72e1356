// Package disk owns the writable layers of sandboxes: sparse files that hold
// an ext4 file system, and copies of such files.
//
// The host manager calls it. A file appears under its name complete or not
// at all; a crash can leave a temporary file named ".new-*" beside it, which
// goes with the sandbox's directory. The package never mounts a file system,
// never looks inside a layer, and knows nothing about VMs.
package disk

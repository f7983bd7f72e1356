// Package filesystem reads and changes the guest's files and accounts.
//
// It owns path resolution, directory listings, file reads, atomic file
// replacement, watches, and the users and groups of the image. The packages agent
// and envd are the callers; the call has been authenticated. It works
// with the agent's own rights and gives new files to the named user. A caller of the
// agent may name any user, so that permission bits protect nothing here. The package
// never blocks on a pipe or a device, never leaves an incomplete file at its path,
// and never speaks a wire protocol.
package filesystem

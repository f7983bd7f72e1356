// Package filesystem looks at and changes the guest's files and accounts.
//
// It owns path resolution, directory listings, file reads, atomic file
// replacement, watches, and the users and groups of the image. The packages agent
// and envd are the callers; the call has been authenticated. Work is done with the
// agent's own rights, and what is made belongs to the user named: whoever may
// call the agent may name any user, so that permission bits protect nothing
// here. The package never blocks on a pipe or a device, never leaves half a
// file at its path, and never speaks a wire protocol.
package filesystem

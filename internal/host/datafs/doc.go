// Package datafs owns a file system in a file: an XFS, whose files can share
// blocks. It serves a host whose own file system cannot do that, and is mounted from
// a loop device where the host agent keeps its data.
//
// The commands up, agent and down call it, the first two before the agent
// opens its directory. Making and mounting are one step, Open, and any number
// of processes may take it at once. Nothing is unmounted when a process ends,
// because VMs outlive the agent; the kernel detaches the loop device with the
// last mount.
//
//	             Open: mkfs            Open: mount
//	no image ----------------> image ---------------> mounted
//	   ^                        ^ |                      |
//	   '-- a crash meanwhile    | '-- nothing is done    |
//	       leaves <image>.new   '------------------------'
//	                              Close, reboot or crash (the log is replayed)
//
// The package never mounts, formats or removes a file that does not carry its
// label, never covers a directory that holds something, never grows, shrinks
// or repairs a file system, and knows nothing about the files in one.
package datafs

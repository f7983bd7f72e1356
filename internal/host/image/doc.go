// Package image keeps the files that virtual machines boot from: guest kernels with
// their modules, initramfs files, images of the guest agent for gVisor, and
// read-only root images (templates).
//
// It owns one directory, laid out as follows, and everything in it:
//
//	kernels/<digest>/{vmlinux,modules/<release>/...,kernel.json}
//	kernels/current            -> <digest>
//	initramfs/<digest>.cpio
//	agents/<digest of the program>-<digest>.erofs
//	templates/<name>/<digest>/{root.erofs,packages.txt,template.json}
//	templates/<name>/current   -> <digest>
//	templates/oci-<id>/used    its time is that of the last use of an imported image
//	locks/                     one lock file for each thing that can be built
//	tmp/                       builds under way; a dead one is removed by the next
//
// Digests are SHA-256 of content, in hex. A published directory never
// changes: a new version is a new directory, and "current" moves to it by
// rename. Old versions stay, since snapshots may refer to them.
//
// Everything but container images, which package oci reads, comes from Debian's
// signed archive through apt; nothing is installed on the host and nothing is mounted outside a private mount
// namespace. The host agent and the "image" command call this package. It
// never starts a VM and knows nothing about sandboxes.
package image
